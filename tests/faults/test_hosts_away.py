"""Hosts that die, fall silent, or answer slowly and wrongly now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.product import OwnRedis, running_product, until
from tests.support.simulation import simulated_hosts
from tests.support.team import Team, make_team, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.faults, pytest.mark.e2e]

# Five times what is promised for HOST_POLL_SECONDS=3: 6 s when refused, 15 s when silent.
REFUSED_SECONDS, SILENT_SECONDS, REVIVED_SECONDS = 30, 75, 30
SOAK_SECONDS = 600


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    own_redis = OwnRedis(tmp_path_factory.mktemp("redis"))
    own_redis.start()
    try:
        options = ["--addresses"] if sys.platform == "linux" else []
        with (
            simulated_hosts(3, *options, "--slow-seconds", "2") as simulation,
            # Twice the probe's limit is well above what the slow answers take.
            running_product(
                tmp_path_factory.mktemp("product"), own_redis, HOST_PROBE_SECONDS="1.5"
            ) as product,
        ):
            yield make_team(product, simulation, addresses=bool(options))
    finally:
        own_redis.stop()


def host(team: Team, number: int) -> dict[str, Any]:
    found: dict[str, Any] = ok(team.admin.get(f"/hosts/{host_id(team, number)}/"))
    return found


def host_id(team: Team, number: int) -> str:
    hosts = ok(team.admin.get("/hosts/", params={"name": f"mac-{number}"}))["results"]
    assert [one["name"] for one in hosts] == [f"mac-{number}"]
    return str(hosts[0]["id"])


def until_health(team: Team, number: int, health: str, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: (now := host(team, number))["health"] == health and now,
        seconds,
        f"mac-{number} is {health}",
    )
    return found


@pytest.mark.parametrize(
    ("killed", "revived", "seconds"),
    [
        ({"up": False}, {"up": True}, REFUSED_SECONDS),
        ({"hang": True}, {"hang": False}, SILENT_SECONDS),
    ],
    ids=["refused", "silent"],
)
def test_a_dead_host_is_unreachable_its_vm_unknown_and_both_are_back_after_its_revival(
    team: Team, killed: dict[str, bool], revived: dict[str, bool], seconds: float
) -> None:
    vm = team.ask(team.admin, host="mac-2")
    team.until_state(vm["id"], "running")
    assert not team.vm(vm["id"])["unknown"]

    team.simulation.control(2, **killed)
    told = until_health(team, 2, "unreachable", seconds)
    assert told["health_reason"]
    seen = team.vm(vm["id"])
    assert (seen["unknown"], seen["state"]) == (True, "running"), "unknown is not failed"
    assert {host(team, number)["health"] for number in (1, 3)} == {"healthy"}

    team.simulation.control(2, **revived)
    until_health(team, 2, "healthy", REVIVED_SECONDS)
    seen = team.vm(vm["id"])
    assert (seen["unknown"], seen["state"]) == (False, "running")
    team.delete_all()
    assert team.simulation.all_vm_names() == []


def no_false_alarm_and_no_stuck_job(team: Team, seconds: float) -> None:
    """Work for `seconds` while 5 % of the answers are slow, and 5 % each broken in two ways."""
    before = ok(team.admin.get("/events/", params={"kind": "host.health"}))["results"]
    last = max((event["sequence"] for event in before), default=0)
    faults = {"slow": 0.05, "error500": 0.05, "badjson": 0.05}
    for number in (1, 2, 3):
        team.simulation.control(number, faults=faults)
    try:
        end = time.monotonic() + seconds
        made = 0
        while time.monotonic() < end:
            vms = [team.ask() for _ in range(4)]
            made += len(vms)
            for vm in vms:
                team.until_state(vm["id"], "running", seconds=120)
            for vm in vms:
                ok(team.bob.request("DELETE", f"/vms/{vm['id']}/"))
            for vm in vms:
                team.until_state(vm["id"], "deleted", seconds=120)
    finally:
        for number in (1, 2, 3):
            team.simulation.control(number, faults=None)
    assert made >= 4
    open_jobs = {"state": ["queued", "running", "cancelling"]}
    until(
        lambda: not ok(team.admin.get("/jobs/", params=open_jobs))["results"],
        60,
        "every job has ended",
    )
    until(lambda: set(team.charged().values()) == {0}, 60, "every charge is released")
    assert team.simulation.all_vm_names() == []
    changes = ok(team.admin.get("/events/", params={"after": last, "kind": "host.health"}))
    assert "unreachable" not in [event["data"]["health"] for event in changes["results"]]


def test_slow_and_broken_answers_make_no_host_unreachable_and_leave_no_job_stuck(
    team: Team,
) -> None:
    no_false_alarm_and_no_stuck_job(team, seconds=8)


@pytest.mark.soak
def test_ten_minutes_of_slow_and_broken_answers_raise_no_false_alarm(team: Team) -> None:
    no_false_alarm_and_no_stuck_job(team, SOAK_SECONDS)
