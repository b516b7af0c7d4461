"""The database goes away and comes back, or runs out of disk: nothing lost, nothing twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.postgres import (
    MAY_MOUNT,
    OwnPostgres,
    database_on_small_disk,
    own_postgres,
)
from tests.support.product import OwnRedis, running_product, until
from tests.support.team import Team, make_team, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.simulation import Simulation

pytestmark = [pytest.mark.faults, pytest.mark.e2e]


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with own_postgres() as running:
        yield running


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    own = OwnRedis(tmp_path_factory.mktemp("redis"))
    own.start()
    yield own
    own.stop()


def retried(team: Team, name: str) -> dict[str, Any]:
    """Ask for a VM as a careful pipeline does: again with the same key until it is accepted."""

    def ask() -> dict[str, Any] | None:
        try:
            answer = team.bob.post(
                "/vms/",
                json={"template": "ubuntu-ci", "name": name},
                headers={"Idempotency-Key": name},
            )
        except httpx.HTTPError:
            return None
        if answer.status_code == 503:
            assert (answer.json()["code"], "Retry-After" in answer.headers) == ("store_away", True)
            return None
        return ok(answer)  # type: ignore[no-any-return]

    vm: dict[str, Any] = until(ask, 60, f"{name} is accepted")
    return vm


def test_a_database_restarted_in_the_middle_of_creates_loses_no_vm_and_makes_none_twice(
    tmp_path_factory: pytest.TempPathFactory,
    server: OwnPostgres,
    redis_url: OwnRedis,
    simulation: Simulation,
) -> None:
    folder = tmp_path_factory.mktemp("product")
    with running_product(folder, redis_url, database_url=server.url()) as product:
        team = make_team(product, simulation)
        with ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(retried, team, f"restart-{number}") for number in range(6)]
            server.stop()
            ready = httpx.get(f"{product.url}/readyz", timeout=10)
            assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "away")
            server.start()
            vms = [one.result() for one in asked]
        for vm in vms:
            team.until_state(vm["id"], "running")
        names = team.simulation.all_vm_names()
        assert len([name for name in names if name.startswith("restart-")]) == len(names) == 6
        assert sum(team.charged().values()) == 12
        assert product.dead() == [], "every process lived through it"
        assert "intact" in product.manage("verify_audit")


@pytest.mark.skipif(not MAY_MOUNT, reason="a small disk is mounted, which takes root on Linux")
def test_a_full_disk_is_told_as_such_and_everything_goes_on_when_there_is_room_again(
    tmp_path_factory: pytest.TempPathFactory,
    server: OwnPostgres,
    redis_url: OwnRedis,
    simulation: Simulation,
) -> None:
    folder = tmp_path_factory.mktemp("product")
    with (
        database_on_small_disk(server, "small", mebibytes=64) as disk,
        running_product(folder, redis_url, database_url=server.url("small")) as product,
    ):
        team = make_team(product, simulation)
        disk.fill()
        asked = []

        def refused() -> dict[str, Any] | None:
            answer = team.bob.post("/vms/", json={"template": "ubuntu-ci"})
            if answer.status_code == 503:
                return answer.json()  # type: ignore[no-any-return]
            asked.append(ok(answer))
            return None

        # Pages that are there already take some rows more.
        told: dict[str, Any] = until(refused, 60, "a request finds the disk full")
        assert told["code"] == "store_full"
        assert "free disk space" in told["detail"]
        assert ok(team.bob.get("/me/"))["username"] == "bob", "reading goes on"
        disk.make_room()
        vm = until(lambda: accepted(team), 60, "a request is accepted again")
        team.until_state(vm["id"], "running", "pending")
        for one in asked:
            team.until_state(one["id"], "running", "pending")
        team.delete_all()
        assert team.simulation.all_vm_names() == []


def accepted(team: Team) -> dict[str, Any] | None:
    answer = team.bob.post("/vms/", json={"template": "ubuntu-ci"})
    return answer.json() if answer.status_code == 202 else None
