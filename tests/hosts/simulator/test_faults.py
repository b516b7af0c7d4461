"""Every kind of fault, as a client sees it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from hosts.simulator import faults

MANIFEST = {"catalog_id": "ubuntu-2404", "version": "1.0"}


def probe(sim: Any, k: int = 1, **kwargs: Any) -> httpx.Response:
    return sim.call("GET", "/health/probe", k, headers={}, **kwargs)


def test_refuse_cuts_the_connection_before_any_byte(sim: Any) -> None:
    sim.patch(faults={"refuse": 1})
    with pytest.raises(httpx.ReadError):
        probe(sim)
    assert probe(sim, 2).status_code == 200
    sim.patch(faults={"refuse": 0})
    assert probe(sim).status_code == 200


def create_in_background(sim: Any) -> tuple[threading.Thread, list[Exception]]:
    """Begin a create that takes for ever; the list gets the error that ends it."""
    sim.patch(clone_seconds=600)
    url, login = f"{sim.url}/h/1/api/machines", sim.login()
    errors: list[Exception] = []

    def send() -> None:
        try:
            request = {"name": "slow", "catalog_manifest": MANIFEST}
            httpx.post(url, json=request, headers=login, timeout=20)
        except httpx.HTTPError as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("end", ["down", "reset"])
def test_requests_under_way_are_cut(sim: Any, wait_until: Callable[..., Any], end: str) -> None:
    thread, errors = create_in_background(sim)
    wait_until(lambda: sim.look()["requests"].get("create"))
    if end == "down":
        sim.patch(up=False)
    else:
        sim.reset()
    thread.join(10)
    assert isinstance(errors[0], httpx.ReadError)
    assert len(sim.look()["vms"]) == 2


def test_hang_never_answers(sim: Any) -> None:
    sim.patch(hang=True)
    with pytest.raises(httpx.ReadTimeout):
        probe(sim, timeout=0.3)
    sim.patch(hang=False)
    assert probe(sim).status_code == 200


def test_slow(sim: Any) -> None:
    sim.patch(faults={"slow": True}, slow_seconds=0.3)
    begun = time.monotonic()
    assert probe(sim).status_code == 200
    assert time.monotonic() - begun >= 0.3


def test_latency(sim: Any) -> None:
    sim.patch(latency_ms=200)
    begun = time.monotonic()
    assert probe(sim).status_code == 200
    assert time.monotonic() - begun >= 0.2


def test_error500(sim: Any) -> None:
    sim.patch(faults={"error500": 1})
    assert probe(sim).status_code == 500
    assert probe(sim).json()["code"] == 500


@pytest.mark.parametrize("path", ["/machines", "/config/hardware", "/health/probe", "/cache"])
def test_badjson(sim: Any, path: str) -> None:
    sim.patch(faults={"badjson": 1})
    answer = sim.call("GET", path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    with pytest.raises(ValueError, match=r"."):
        answer.json()


def test_wrongtype(sim: Any) -> None:
    right = sim.call("GET", "/config/hardware").json()
    sim.patch(faults={"wrongtype": 1})
    wrong = sim.call("GET", "/config/hardware").json()
    assert wrong["total"]["memory_size"] == f"about {right['total']['memory_size']}"
    assert wrong["cpu_type"] == ["arm64"]
    assert isinstance(sim.call("GET", "/machines").json(), dict)


def test_losejob_forgets(sim: Any) -> None:
    sim.patch(faults={"losejob": 1})
    answer = sim.create_async("build-1", job_id="ours")
    assert answer.status_code == 202 and answer.json()["id"] == "ours"
    login = sim.login()
    assert sim.call("GET", "/jobs/ours", headers=login).status_code == 404
    assert sim.call("GET", "/jobs", headers=login).json() == []
    assert [vm["name"] for vm in sim.look()["vms"]] == ["golden-1", "golden-2"]


def test_failcreate(sim: Any) -> None:
    sim.patch(faults={"failcreate": 1})
    job = sim.ended_job(sim.create_async("build-1").json()["id"])
    assert job["state"] == "failed" and "build-1" in job["error"]
    request = {"name": "build-1", "catalog_manifest": MANIFEST}
    assert sim.call("POST", "/machines", json=request).status_code == 400
    clone = {"clone_name": "build-1"}
    assert sim.call("PUT", "/machines/golden-1/clone", json=clone).status_code == 400
    assert len(sim.look()["vms"]) == 2


@pytest.mark.parametrize("path", ["/machines", "/machines/async"])
def test_latecreate(sim: Any, wait_until: Callable[..., Any], path: str) -> None:
    sim.patch(faults={"latecreate": 1}, late_seconds=0.6)
    internal = {"X-INTERNAL-API-CLIENT": "true", "X-ORCHESTRATOR-JOB-ID": "ours"}
    login = sim.login()
    request = {"name": "build-1", "catalog_manifest": MANIFEST, "start_on_create": True}
    begun = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        sim.call("POST", path, json=request, headers=login | internal, timeout=0.2)
    assert sim.call("GET", "/jobs/ours", headers=login).status_code == 404
    assert len(sim.look()["vms"]) == 2
    wait_until(lambda: len(sim.look()["vms"]) == 3)
    assert time.monotonic() - begun >= 0.6
    assert sim.look()["vms"][2]["state"] == "running"
    if path == "/machines/async":
        job = sim.call("GET", "/jobs/ours", headers=login).json()
        assert job["state"] == "completed"


def test_latecreate_of_a_clone(sim: Any, wait_until: Callable[..., Any]) -> None:
    sim.patch(faults={"latecreate": 1}, late_seconds=0.3)
    with pytest.raises(httpx.ReadTimeout):
        sim.call("PUT", "/machines/golden-1/clone", json={"clone_name": "copy"}, timeout=0.1)
    wait_until(lambda: len(sim.look()["vms"]) == 3)


def test_authexpired_ends_the_session_until_a_new_login(sim: Any) -> None:
    login = sim.login()
    assert sim.call("GET", "/machines", headers=login).status_code == 200
    sim.patch(faults={"authexpired": 1})
    assert sim.call("GET", "/machines", headers=login).status_code == 401
    sim.patch(faults={"authexpired": 0})
    assert sim.call("GET", "/machines", headers=login).status_code == 401
    assert sim.call("GET", "/machines", headers=sim.login()).status_code == 200
    assert sim.call("GET", "/machines").status_code == 200


def test_clockskew_moves_dates_and_expiry(sim: Any) -> None:
    sim.patch(faults={"clockskew": 1})
    answer = probe(sim)
    ahead = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
    assert 595 <= ahead <= 605
    login = {"email": "root@localhost", "password": "simulated"}
    expires = sim.call("POST", "/auth/token", headers={}, json=login).json()["expires_at"]
    assert 1490 <= expires - time.time() <= 1505
    sim.patch(clock_offset_seconds=-1200)
    ahead = parsedate_to_datetime(probe(sim).headers["date"]).timestamp() - time.time()
    assert -1205 <= ahead <= -1195
    assert sim.call("GET", "/machines", headers=sim.login()).status_code == 200


# -- who is hit ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(faults.HOST_KINDS))
def test_share_of_hosts_is_exact_and_depends_on_the_seed(kind: str) -> None:
    def hit(seed: int, share: float) -> set[int]:
        return {k for k in range(1, 21) if faults.host_is_hit(seed, kind, k, 20, share)}

    assert [len(hit(1, share)) for share in (0, 0.05, 0.5, 1)] == [0, 1, 10, 20]
    assert hit(1, 0.3) == hit(1, 0.3) < hit(1, 0.5)
    assert hit(1, 0.3) != hit(2, 0.3)


def test_faults_of_requests_repeat_with_the_seed(simulator: Callable[..., Any]) -> None:
    runs = []
    for seed in (7, 7, 8):
        sim = simulator("--seed", seed, "--fault", "error500:0.3")
        runs.append([probe(sim).status_code for _ in range(60)])
    assert runs[0] == runs[1] != runs[2]
    assert 8 <= runs[0].count(500) <= 28


def test_faults_by_flags_hit_a_share_of_hosts(simulator: Callable[..., Any]) -> None:
    sim = simulator("--count", 10, "--fault", "refuse:0.3", "--fault", "clockskew:1")
    hosts = sim.control()
    assert [host["up"] for host in hosts].count(False) == 3
    assert {host["clock_offset_seconds"] for host in hosts} == {600}


@pytest.mark.parametrize(
    "value", [{"a": [1, None, True, "x"]}, [], {}, 3, "x", [{"id": 1.5}], None]
)
def test_wrong_types_keep_no_right_one(value: Any) -> None:
    wrong = json.loads(faults.break_types(json.dumps(value).encode()))
    assert type(wrong) is not type(value) or isinstance(value, dict)
