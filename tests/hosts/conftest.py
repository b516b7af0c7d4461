"""What tests of hosts share: a running simulator, and hosts made by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from hosts.drivers.base import Hardware, Inventory, RemoteVM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from accounts.actors import Actor
    from accounts.models import User
    from hosts.models import Host

ROOT = Path(__file__).parents[2]


@dataclass
class Pool:
    """A simulator in a process of its own: three hosts without VMs that boot at once."""

    process: subprocess.Popen[str]
    url: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=15))

    def address(self, k: int = 1) -> str:
        return f"{self.url}/h/{k}"

    def look(self, k: int = 1) -> dict[str, Any]:
        return self.http.get(f"{self.url}/control/h/{k}").raise_for_status().json()

    def patch(self, k: int = 1, **settings: Any) -> dict[str, Any]:
        answer = self.http.patch(f"{self.url}/control/h/{k}", json=settings)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def reset(self) -> None:
        self.http.post(f"{self.url}/control/reset").raise_for_status()


@pytest.fixture(scope="session")
def _pool() -> Iterator[Pool]:
    command = [sys.executable, "-m", "hosts.simulator", "--count", "3", "--port", "0"]
    command += ["--boot-seconds", "0", "--clone-seconds", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("listening on "), line
    pool = Pool(process, line.removeprefix("listening on "))
    yield pool
    pool.http.close()
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture
def pool(_pool: Pool) -> Iterator[Pool]:
    """The simulated pool, as new."""
    _pool.reset()
    yield _pool
    _pool.reset()


HARDWARE = Hardware(
    architecture="arm64",
    cpu_brand="Apple M2 Pro",
    total_cpus=12,
    reserved_cpus=1,
    total_memory_mib=32768,
    reserved_memory_mib=2048,
    total_disk_gib=1000,
    reserved_disk_gib=20,
    free_disk_gib=900,
    macos_slots=2,
    devops_version="1.0.5",
    os_name="macOS",
    os_version="15.5",
    desktop_version="20.4.0",
    licensed=True,
    hardware_id="",
    modules=("api", "host", "cache"),
    cache_enabled=True,
    shared_volume=None,
    clock_offset_seconds=0.0,
)


@pytest.fixture
def remote_vm() -> Callable[..., RemoteVM]:
    """Return a running VM with 4 cores, 8 GiB and a disk of 64 GiB, but for what is given."""

    def make(vm_id: str, **values: Any) -> RemoteVM:
        vm = RemoteVM(vm_id, f"vm-{vm_id}", "running", "pvm", "linux", 4, 8192, 64, None, "ci")
        return replace(vm, **values)

    return make


@pytest.fixture
def inventory_of() -> Callable[..., Inventory]:
    """Return an inventory with these VMs; keyword arguments change the machine."""

    def make(*vms: RemoteVM, **hardware: Any) -> Inventory:
        return Inventory(replace(HARDWARE, **hardware), vms, images=None)

    return make


@pytest.fixture
def make_host(db: None) -> Callable[..., Host]:
    """Make a host by hand: new, never asked, due for its first poll."""
    from hosts.models import Host, HostCapacity, HostStatus

    def make(name: str = "mac1", url: str = "", **status: Any) -> Host:
        host = Host.objects.create(
            name=name, url=f"{url or 'http://127.0.0.1:9/' + name}/api", api_key="sim:sim"
        )
        HostStatus.objects.create(host=host, **status)
        HostCapacity.objects.create(host=host)
        return host

    return make


@pytest.fixture
def admin(alice: User, actor_of: Callable[[User], Actor]) -> Actor:
    return actor_of(alice)


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Put entries of the test's own in the place of the rooms' ones."""
    from hosts import lifecycle

    for name in ("on_inventory", "before_removal", "on_health_change", "on_available"):
        monkeypatch.setattr(lifecycle, name, [])

    def add(name: str, entry: Any) -> None:
        getattr(lifecycle, name).append(entry)

    return add
