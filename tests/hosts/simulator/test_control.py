"""The control API."""

from __future__ import annotations

from typing import Any

import pytest


def test_overview(sim: Any) -> None:
    hosts = sim.control()
    assert [host["k"] for host in hosts] == [1, 2, 3]
    host = hosts[0]
    assert host["url"] == f"{sim.url}/h/1"
    assert (host["cpus"], host["memory"], host["disk"]) == (12, 32768, 1000)
    vm = host["vms"][1]
    assert (vm["name"], vm["state"], vm["cpus"]) == ("golden-2", "running", 1)
    assert vm["ip"].startswith("10.211.1.")
    assert len({vm["ip"] for host in hosts for vm in host["vms"] if vm["ip"]}) == 3


def test_requests_are_counted(sim: Any) -> None:
    sim.call("GET", "/health/probe")
    sim.call("GET", "/machines")
    sim.call("GET", "/machines", headers={})
    sim.call("GET", "/nothing")
    sim.make("a-1")
    assert sim.look()["requests"] == {
        "probe": 1,
        "list": 2,
        "unauthorized": 1,
        "unknown": 1,
        "create": 1,
    }


def test_peak_remembers_the_highest_load(sim: Any) -> None:
    sim.make("a-1")
    sim.call("DELETE", "/machines/a-1?force=true")
    assert sim.look()["peak"] == {"cpus": 1 + 1 + 3, "memory": 1024 + 1024 + 4096}


def test_resources_change(sim: Any) -> None:
    sim.patch(cpus=4, memory=8192, disk=100)
    record = sim.call("GET", "/config/hardware").json()
    assert record["total"]["logical_cpu_count"] == 4
    assert record["total"]["memory_size"] == 8192
    assert record["total_available"]["prl_home_total_size"] == 100 * 1024


def test_faults_are_merged_and_ended(sim: Any) -> None:
    sim.patch(faults={"slow": 0.3})
    assert sim.patch(faults={"error500": 0.2})["faults"] == {"slow": 0.3, "error500": 0.2}
    assert sim.patch(faults={"slow": 0})["faults"] == {"error500": 0.2}
    assert sim.look(2)["faults"] == {}
    assert sim.patch(faults=None)["faults"] == {}


def test_up_and_hang_win_over_faults(sim: Any) -> None:
    assert sim.patch(faults={"refuse": 1}, up=True)["up"]
    assert not sim.patch(up=None)["up"]
    assert sim.patch(faults={"hang": 1})["hang"]
    assert not sim.patch(hang=False)["hang"]


def test_vms_are_replaced(sim: Any) -> None:
    golden = sim.look()["vms"][1]
    record = sim.patch(
        vms=[
            {"name": "golden-2", "state": "stopped", "cpus": 7},
            {"name": "new", "state": "running", "memory": 512, "type": "APPLE_VZ_VM"},
            {"id": "{fixed}", "name": "third", "ip": "10.9.9.9", "state": "running", "disk": 5},
        ],
    )
    kept, new, third = record["vms"]
    assert (kept["id"], kept["state"], kept["cpus"]) == (golden["id"], "stopped", 7)
    assert (new["memory"], new["type"], bool(new["ip"])) == (512, "APPLE_VZ_VM", True)
    assert (third["id"], third["ip"], third["disk"]) == ("{fixed}", "10.9.9.9", 5)
    assert sim.call("GET", "/machines/golden-1").status_code == 404
    assert sim.call("GET", "/machines/third/status").json()["ip_configured"] == "10.9.9.9"
    assert sim.patch(vms=[])["vms"] == []


@pytest.mark.parametrize(
    "settings",
    [
        {"faults": {"nonsense": 1}},
        {"faults": {"slow": 2}},
        {"faults": ["slow"]},
        {"up": "no"},
        {"cpus": -1},
        {"cpus": True},
        {"memory": "8192"},
        {"boot_seconds": -1},
        {"clock_offset_seconds": "x"},
        {"state_method": "POST"},
        {"vms": {}},
        {"vms": [{"state": "running"}]},
        {"vms": [{"name": "a", "state": "flying"}]},
        {"vms": [{"name": "a", "colour": "red"}]},
        {"colour": "red"},
    ],
)
def test_wrong_settings_change_nothing(sim: Any, settings: dict[str, Any]) -> None:
    before = sim.look()
    answer = sim.http.patch(f"{sim.url}/control/h/1", json={"cpus": 2} | settings)
    assert answer.status_code == 400
    assert answer.json()["error"].endswith(".")
    assert sim.look() == before


def test_all_hosts_at_once(sim: Any) -> None:
    sim.http.patch(f"{sim.url}/control/", json={"cpus": 2}).raise_for_status()
    assert [host["cpus"] for host in sim.control()] == [2, 2, 2]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/control/h/9"), ("PATCH", "/control/h/x"), ("GET", "/control/reset")],
)
def test_unknown_control(sim: Any, method: str, path: str) -> None:
    assert sim.http.request(method, sim.url + path, json={}).status_code == 404


def test_patch_without_json(sim: Any) -> None:
    assert sim.http.patch(f"{sim.url}/control/h/1", content=b"{").status_code == 400
    assert sim.http.patch(f"{sim.url}/control/h/1", json=[]).status_code == 400


def test_reset_restores_the_start(sim: Any) -> None:
    start = sim.look()
    sim.make("a-1")
    sim.patch(cpus=1, up=False, faults={"slow": 1})
    sim.reset()
    assert sim.look() == start
