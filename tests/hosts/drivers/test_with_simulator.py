"""The driver against the simulator, which was written from the contract and not from the driver."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from hosts.drivers import (
    Connection,
    CreateSpec,
    Driver,
    ErrorKind,
    HostError,
    HostJob,
    Limits,
    normalise_url,
    open_async_driver,
    open_driver,
)

PROJECT = Path(__file__).parents[3]
SETTINGS = ("--count", "2", "--port", "0", "--boot-seconds", "0", "--clone-seconds", "0")
LISTENING = "listening on "
LIMITS = Limits(probe_seconds=1, create_seconds=1)


@dataclass
class Simulator:
    url: str

    def connection(self, k: int = 1, **changes: str) -> Connection:
        if "api_key" not in changes:
            changes = {"username": "root@localhost", "password": "simulated"} | changes
        return Connection(normalise_url(f"{self.url}/h/{k}"), **changes)

    def driver(self, k: int = 1, **changes: str) -> Driver:
        return open_driver("parallels", self.connection(k, **changes), limits=LIMITS)

    def set(self, **settings: Any) -> None:
        httpx.patch(f"{self.url}/control/h/1", json=settings).raise_for_status()


@pytest.fixture(scope="module")
def process() -> Iterator[Simulator]:
    command = [sys.executable, "-m", "hosts.simulator", *SETTINGS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        late = threading.Timer(30, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith(LISTENING))
            yield Simulator(line.removeprefix(LISTENING).strip())
        finally:
            late.cancel()
            process.terminate()


@pytest.fixture
def simulator(process: Simulator) -> Simulator:
    httpx.post(f"{process.url}/control/reset").raise_for_status()
    return process


def spec(name: str, *, start: bool = True) -> CreateSpec:
    return CreateSpec(
        name=name,
        architecture="arm64",
        catalog_id="MACOS-XCODE",
        version="16.2",
        connection="host=ci@example.com:pw@https://catalog.example",
        type="pvm",
        cpus=2,
        memory_mib=2048,
        start=start,
    )


def wait(condition: Callable[[], Any]) -> Any:
    """Return the first true value; the simulator's clone and boot times are 0."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if value := condition():
            return value
        threading.Event().wait(0.02)
    raise AssertionError("The condition did not come true within 10 seconds.")


def finished(driver: Driver, job_id: str) -> HostJob:
    job: HostJob = wait(lambda: (job := driver.read_job(job_id)).is_final and job)
    return job


def test_getting_to_know_a_host(simulator: Simulator) -> None:
    driver = simulator.driver()
    assert driver.probe() > 0
    hardware = driver.hardware()
    assert (hardware.architecture, hardware.total_cpus) == ("arm64", 12)
    assert hardware.total_memory_mib == 32768
    assert 900 < hardware.total_disk_gib <= 1000
    assert hardware.macos_slots == 2
    assert (
        hardware.hardware_id and hardware.hardware_id != simulator.driver(2).hardware().hardware_id
    )
    assert hardware.clock_offset_seconds is not None and abs(hardware.clock_offset_seconds) < 2
    assert driver.list_vms() == ()
    assert driver.inventory().vms == ()


@pytest.mark.parametrize("credentials", [{}, {"api_key": "sim:sim"}])
def test_the_life_of_a_vm(simulator: Simulator, credentials: dict[str, str]) -> None:
    driver = simulator.driver(**credentials)
    job_id = str(uuid4())
    answer = driver.create(spec("build-1-0123456789ABCDEF"), job_id)
    assert answer.host_job_id == job_id
    job = finished(driver, job_id)
    assert job.succeeded, job
    assert job.vm_id
    vm_id = job.vm_id
    wait(lambda: driver.status(vm_id).state == "running" and driver.status(vm_id).ip_address)
    (vm,) = driver.list_vms()
    assert vm == driver.read_vm(vm_id)
    assert (vm.name, vm.state, vm.cpus) == ("build-1-0123456789ABCDEF", "running", 2)
    assert (vm.memory_mib, vm.type) == (2048, "pvm")
    assert vm.disk_gib > 0 and vm.ip_address
    result = driver.execute(vm_id, "echo hello", {"CI": "1"}, 10)
    assert (result.exit_code, result.stdout.strip()) == (0, "hello")
    with pytest.raises(HostError) as caught:
        driver.delete(vm_id, force=False)
    assert caught.value.kind is ErrorKind.REJECTED
    driver.stop(vm_id, force=True)
    wait(lambda: driver.status(vm_id).state == "stopped")
    driver.configure(vm_id, cpus=4, memory_mib=4096)
    assert (driver.read_vm(vm_id).cpus, driver.read_vm(vm_id).memory_mib) == (4, 4096)
    clone_id = driver.clone(vm_id, "build-2-FEDCBA9876543210")
    assert clone_id not in {"", vm_id}
    driver.start(clone_id)
    wait(lambda: driver.status(clone_id).state == "running")
    images = driver.cached_images()
    assert images is not None and [image.version for image in images] == ["16.2"]
    for each in (vm_id, clone_id):
        driver.delete(each, force=True)
    assert driver.list_vms() == ()
    with pytest.raises(HostError) as caught:
        driver.read_vm(vm_id)
    assert caught.value.kind is ErrorKind.NOT_FOUND


def test_a_host_older_than_put(simulator: Simulator) -> None:
    simulator.set(state_method="GET", vms=[{"name": "a", "state": "stopped", "id": "{a}"}])
    driver = simulator.driver()
    driver.start("{a}")
    wait(lambda: driver.status("{a}").state == "running")


@pytest.mark.parametrize(
    ("credentials", "kind"),
    [
        ({"password": "wrong"}, ErrorKind.CREDENTIALS),
        ({"username": "nobody"}, ErrorKind.CREDENTIALS),
        ({"api_key": "sim:wrong"}, ErrorKind.CREDENTIALS),
    ],
)
def test_wrong_credentials(
    simulator: Simulator, credentials: dict[str, str], kind: ErrorKind
) -> None:
    with pytest.raises(HostError) as caught:
        simulator.driver(**credentials).hardware()
    assert caught.value.kind is kind


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        ({"faults": {"badjson": 1}}, {ErrorKind.BAD_ANSWER}),
        ({"faults": {"wrongtype": 1}}, {ErrorKind.BAD_ANSWER}),
        ({"faults": {"error500": 1}}, {ErrorKind.HOST_FAILED}),
        ({"hang": True}, {ErrorKind.TIMEOUT}),
        ({"up": False}, {ErrorKind.REFUSED, ErrorKind.DISCONNECTED, ErrorKind.HOST_FAILED}),
    ],
)
def test_faults_are_host_problems(
    simulator: Simulator, settings: dict[str, Any], kinds: set[ErrorKind]
) -> None:
    simulator.set(**settings)

    async def poll(k: int) -> float:
        driver = open_async_driver("parallels", simulator.connection(k), limits=LIMITS)
        try:
            return await driver.probe()
        finally:
            await driver.aclose()

    with pytest.raises(HostError) as caught:
        simulator.driver().probe()
    assert caught.value.kind in kinds
    with pytest.raises(HostError) as caught:
        asyncio.run(poll(1))
    assert caught.value.kind in kinds
    assert asyncio.run(poll(2)) > 0  # the neighbour is well


@pytest.mark.parametrize("fault", ["badjson", "wrongtype"])
def test_no_answer_of_a_broken_host_gets_through(simulator: Simulator, fault: str) -> None:
    simulator.set(vms=[{"name": "a", "id": "{a}"}])
    driver = simulator.driver()
    driver.list_vms()  # logged in
    simulator.set(faults={fault: 1})
    calls: list[Callable[[], object]] = [
        driver.hardware,
        driver.list_vms,
        lambda: driver.read_vm("{a}"),
        lambda: driver.status("{a}"),
        driver.cached_images,
        lambda: driver.start("{a}"),
        lambda: driver.clone("{a}", "b"),
        lambda: driver.execute("{a}", "true", {}, 5),
        lambda: driver.create(spec("c"), str(uuid4())),
    ]
    for call in calls:
        with pytest.raises(HostError):
            call()


def test_a_lapsed_token_is_renewed(simulator: Simulator) -> None:
    driver = simulator.driver()
    driver.list_vms()
    simulator.set(faults={"authexpired": 1})
    with pytest.raises(HostError) as caught:
        driver.list_vms()
    assert caught.value.kind is ErrorKind.CREDENTIALS
    simulator.set(faults={"authexpired": 0})
    assert driver.list_vms() == ()


def test_a_skewed_clock(simulator: Simulator) -> None:
    simulator.set(clock_offset_seconds=-7200)
    driver = simulator.driver()
    offset = driver.hardware().clock_offset_seconds
    assert offset is not None and -7203 < offset < -7197
    assert driver.list_vms() == ()


def test_a_late_create_is_of_unknown_outcome(simulator: Simulator) -> None:
    driver = simulator.driver()
    driver.list_vms()
    simulator.set(faults={"latecreate": 1}, late_seconds=1.2)
    with pytest.raises(HostError) as caught:
        driver.create(spec("late-0123456789ABCDEF"), str(uuid4()))
    assert caught.value.outcome_unknown and not caught.value.permanent
    wait(lambda: [vm.name for vm in driver.list_vms()] == ["late-0123456789ABCDEF"])


def made(driver: Driver, name: str, *, start: bool = True) -> str:
    """Return the id of a new VM."""
    job_id = str(uuid4())
    driver.create(spec(name, start=start), job_id)
    found: str | None = finished(driver, job_id).vm_id
    assert found
    return found


def test_pausing_restarting_and_resetting(simulator: Simulator) -> None:
    driver = simulator.driver()
    vm = made(driver, "build-1")
    driver.pause(vm)
    assert driver.status(vm).state == "paused"
    driver.resume(vm)
    assert driver.status(vm).state == "running"
    address = driver.status(vm).ip_address
    for verb in (driver.restart, driver.reset):
        verb(vm)
        again = wait(lambda: (seen := driver.status(vm)).ip_address and seen)
        assert again.state == "running"
        assert again.ip_address != address
        address = again.ip_address


def test_size_and_name_of_a_stopped_vm(simulator: Simulator) -> None:
    driver = simulator.driver()
    vm = made(driver, "build-1", start=False)
    driver.configure(vm, 4, 8192, 100)
    driver.rename(vm, "build-2")
    seen = driver.read_vm(vm)
    assert (seen.name, seen.cpus, seen.memory_mib, seen.disk_gib) == ("build-2", 4, 8192, 100)
    with pytest.raises(HostError, match="smaller") as refused:
        driver.configure(vm, 2, 8192, 50)
    assert refused.value.permanent
    # What was applied before the failing operation stays applied (contract 2.3).
    assert (driver.read_vm(vm).cpus, driver.read_vm(vm).disk_gib) == (2, 100)


def test_snapshots(simulator: Simulator) -> None:
    driver = simulator.driver()
    vm = made(driver, "build-1")
    clean = driver.take_snapshot(vm, "clean", "before tests")
    driver.stop(vm, force=True)
    tested = driver.take_snapshot(vm, "tested", "")
    listed = driver.snapshots(vm)
    assert [(one.id, one.name, one.parent) for one in listed] == [
        (clean, "clean", ""),
        (tested, "tested", clean),
    ]
    assert [(one.with_memory, one.current) for one in listed] == [(True, False), (False, True)]
    driver.revert_to_snapshot(vm, clean)
    assert driver.status(vm).state == "running"
    driver.delete_snapshot(vm, clean, children=False)
    assert [(one.id, one.parent) for one in driver.snapshots(vm)] == [(tested, "")]
    with pytest.raises(HostError) as unknown:
        driver.delete_snapshot(vm, clean, children=False)
    assert unknown.value.kind == ErrorKind.NOT_FOUND
    driver.delete_snapshots(vm)
    assert driver.snapshots(vm) == ()


def test_a_file_of_the_host_goes_into_a_running_vm_only(simulator: Simulator) -> None:
    driver = simulator.driver()
    vm = made(driver, "build-1")
    driver.upload(vm, "/Users/ci/key.p12", "/tmp/key.p12")
    driver.stop(vm, force=True)
    with pytest.raises(HostError) as refused:
        driver.upload(vm, "/Users/ci/key.p12", "/tmp/key.p12")
    assert refused.value.permanent


def test_the_host_tells_what_changed_until_it_ends_the_connection(simulator: Simulator) -> None:
    driver, told = simulator.driver(), []

    async def listen() -> HostError:
        follower = open_async_driver("parallels", simulator.connection(), limits=LIMITS)
        try:
            async for news in follower.news():
                told.append(news)
                if len(told) == 1:
                    await asyncio.to_thread(driver.create, spec("build-1"), "job-1")
                if "job-1" in news.job_ids:
                    await asyncio.to_thread(simulator.set, drop_events=True)
        except HostError as error:
            return error
        finally:
            await follower.aclose()
        raise AssertionError("it ended without a word")

    ended = asyncio.run(asyncio.wait_for(listen(), 20))
    assert ended.kind == ErrorKind.DISCONNECTED
    vm_id = driver.list_vms()[0].id
    assert told[0].listing and not told[0].vm_ids  # the connection stands
    assert any(vm_id in news.vm_ids for news in told)


def test_a_host_without_events_says_so(simulator: Simulator) -> None:
    simulator.set(events=False)

    async def listen() -> None:
        follower = open_async_driver("parallels", simulator.connection(), limits=LIMITS)
        async for _news in follower.news():
            pass

    with pytest.raises(HostError) as error:
        asyncio.run(listen())
    assert error.value.kind == ErrorKind.NOT_FOUND
