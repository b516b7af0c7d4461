"""What survives a restart (``--state``), and what happens to a file that is of no use."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FAST = ("--boot-seconds", 0, "--clone-seconds", 0)
Start = Callable[..., Any]


def end(sim: Any, number: signal.Signals = signal.SIGTERM) -> None:
    sim.process.send_signal(number)
    sim.process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_vms_jobs_and_caches_survive_a_stop(
    simulator: Start, tmp_path: Path, number: signal.Signals
) -> None:
    flags = (*FAST, "--count", 2, "--vms", 2, "--state", tmp_path / "pool.json")
    first = simulator(*flags)
    first.make("build-1", user="ci")
    first.create_async("build-2", k=2, job_id="job-2")
    first.ended_job("job-2", k=2)
    first.call("POST", "/machines/build-1/snapshots", json={"snapshot_name": "clean"})
    first.call("PUT", "/machines/build-1/rename", json={"new_name": "b-1", "description": "text"})
    path = {"flag": "path", "value": "/Users/ci/src"}
    rows = [
        {"group": "time", "operation": "time-sync", "value": "off"},
        {"group": "shared-folder", "operation": "add", "value": "src", "options": [path]},
        {"group": "device", "operation": "disconnect", "value": "net0"},
    ]
    assert first.call("PUT", "/machines/b-1/set", json={"operations": rows}).is_success
    first.call("DELETE", "/machines/golden-1")
    before = first.control()
    machines = first.call("GET", "/machines").json()
    snapshots = first.call("GET", "/machines/b-1/snapshots").json()
    end(first, number)
    assert first.process.returncode == 0

    second = simulator(*flags)
    for old, new in zip(before, second.control(), strict=True):
        assert {key: new[key] for key in ("uuid", "vms", "jobs", "cache")} == {
            key: old[key] for key in ("uuid", "vms", "jobs", "cache")
        }
    assert [vm["Name"] for vm in second.call("GET", "/machines").json()] == [
        vm["Name"] for vm in machines
    ]
    assert second.call("GET", "/machines/b-1/snapshots").json() == snapshots
    assert second.ended_job("job-2", k=2)["result_record_name"] == "build-2"
    assert second.make("build-3")["current_state"] == "running"
    addresses = [vm["ip"] for vm in second.look()["vms"] if vm["ip"]]
    assert len(addresses) == len(set(addresses)) == 3


def test_a_change_is_written_although_the_process_is_killed(
    simulator: Start, wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "pool.json"
    first = simulator(*FAST, "--state", path)
    first.make("build-1")
    wait_until(lambda: "build-1" in path.read_text(), 2)
    end(first, signal.SIGKILL)
    second = simulator(*FAST, "--state", path)
    assert [vm["name"] for vm in second.look()["vms"]] == ["build-1"]
    second.reset()
    wait_until(lambda: "build-1" not in path.read_text(), 2)


def test_work_under_way_ends_as_on_a_host_that_restarts(
    simulator: Start, wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    slow = ("--boot-seconds", 600, "--clone-seconds", 600, "--state", tmp_path / "pool.json")
    first = simulator(*slow)
    first.create_async("lost", job_id="lost")
    first.patch(clone_seconds=0)
    first.create_async("booting", job_id="booting")
    wait_until(lambda: [vm["state"] for vm in first.look()["vms"]] == ["starting"])
    end(first)

    second = simulator(*slow)
    (vm,) = second.look()["vms"]
    assert (vm["name"], vm["state"], bool(vm["ip"])) == ("booting", "running", True)
    booting, lost = second.ended_job("booting"), second.ended_job("lost")
    assert (booting["state"], booting["result_record_id"]) == ("completed", vm["id"])
    assert lost["state"] == "failed" and "restarted" in lost["error"]


def test_it_holds_no_secret(simulator: Start, tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    sim = simulator(*FAST, "--state", path)
    login = sim.login()
    sim.create_async("build-1", job_id="j")  # its connection holds user:password
    sim.ended_job("j")
    command = {"command": "echo x", "environment_variables": {"TOKEN": "very-secret"}}
    assert sim.call("PUT", "/machines/build-1/execute", json=command, headers=login).is_success
    end(sim)
    text = path.read_text()
    for secret in ("password", 'simulated"', "sim:sim", "very-secret", login["Authorization"]):
        assert secret not in text


def test_hosts_that_are_not_served_now_are_kept(simulator: Start, tmp_path: Path) -> None:
    flags = (*FAST, "--state", tmp_path / "pool.json")
    first = simulator(*flags, "--count", 2)
    first.make("build-1", k=2)
    end(first)
    end(simulator(*flags, "--count", 1))
    assert [vm["name"] for vm in simulator(*flags, "--count", 3).look(2)["vms"]] == ["build-1"]


GOOD = {"format": "simulated hosts 1", "seed": 1, "arch": "arm64", "hosts": {}}
HOST = {"addresses_given": 0, "vms": [], "jobs": [], "cache": []}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it is not JSON"),
        ('{"format": "simulated ho', "it is not JSON"),
        ("\xff\x00", "it is not JSON"),
        ("[]", "it is not the state of"),
        ({"version": 3}, "it is not the state of"),
        (GOOD | {"seed": 2}, "another --seed or --arch"),
        (GOOD | {"arch": "mixed"}, "another --seed or --arch"),
        (GOOD | {"hosts": []}, "“hosts” is missing or of a wrong type"),
        (GOOD | {"hosts": {"one": HOST}}, "not the number of a host"),
        (GOOD | {"hosts": {"1": []}}, "a host is not an object"),
        (GOOD | {"hosts": {"1": HOST | {"vms": None}}}, "“vms” is missing"),
        (GOOD | {"hosts": {"1": HOST | {"vms": [{"id": 3}]}}}, "“id” is missing"),
        (GOOD | {"hosts": {"1": HOST | {"addresses_given": True}}}, "“addresses_given”"),
    ],
)
def test_a_file_of_no_use_is_set_aside_with_a_sentence(
    tmp_path: Path, content: Any, why: str
) -> None:
    path = tmp_path / "pool.json"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="latin-1" if "\xff" in text else "utf-8")
    kept = path.read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "hosts.simulator", "--state", str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline().startswith("listening on ")
    process.terminate()
    _, said = process.communicate(timeout=10)
    assert said.count("\n") == 1 and why in said and str(path) in said and "start fresh" in said
    assert (tmp_path / "pool.json.unusable").read_bytes() == kept
    assert json.loads(path.read_text())["hosts"]["1"]["vms"] == []


def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hosts.simulator", "--state", str(tmp_path / "no" / "file")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert "Cannot keep the state in" in done.stderr and "Traceback" not in done.stderr


def test_a_write_that_fails_later_is_told_once_and_tried_again(
    simulator: Start, wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "pool.json"
    sim = simulator(*FAST, "--state", path)
    folder.rename(tmp_path / "away")
    sim.make("build-1")
    folder.mkdir()
    wait_until(lambda: path.exists() and "build-1" in path.read_text(), 5)
    assert not list(folder.glob(".*"))
