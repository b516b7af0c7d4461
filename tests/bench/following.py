"""How soon the console shows what changes on a host by itself."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.chain import HOSTS, INSTANT, LARGE, PATH, Run
from tests.bench.load import Client, Stream, expect
from tests.bench.results import Bar, Result, percentile
from tests.support.product import until
from tests.support.simulation import simulated_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.stage import Stage, Stages
    from tests.support.simulation import Simulation

VMS = 10
CHANGES = 30
PROMISED_MS = 1000.0
LOST_SECONDS = 20  # a change that nobody told is found by a poll much later


@dataclass
class _Watched:
    """A VM, and where it is."""

    id: str
    host_name: str
    host: int
    state: str = "running"


def measure(stages: Stages) -> Iterator[Result]:
    """Change VMs on their hosts; wait for their names in a browser's stream and for their state."""
    with simulated_hosts(HOSTS, *LARGE, *INSTANT) as simulation, stages.stage() as stage:
        accounts = stage.inside("rows:accounts")
        stage.inside("rows:pool", count=HOSTS, simulator_url=simulation.url)
        stage.inside("rows:template", name="ubuntu-ci")
        run = Run(stage, {"Authorization": f"Bearer {accounts['bob']}"})
        stage.start("web", "steps", "calls", "beat", "watcher")
        stage.wait_ready()
        run.wait_for_hosts()
        live = "SELECT count(*) FROM hosts_hostwatch WHERE live_since IS NOT NULL"
        until(lambda: stage.ask_database(live)[0][0] == HOSTS, 60, "hosts are followed")
        answers, _ = run.ask_many("ubuntu-ci", 1, VMS)
        run.until_running(answers)
        watched = _where(stage, [json.loads(answer.body)["id"] for answer in answers])
        times = asyncio.run(_changes(stage.product.port, accounts["cookie"], simulation, watched))
    note = f"{CHANGES} changes, one after the other"
    yield Result("change on a host to page, p50", percentile(times, 50), "ms", note=note)
    yield Result(
        "change on a host to page, p95", percentile(times, 95), "ms", Bar(PROMISED_MS), note=note
    )


def _where(stage: Stage, ids: list[str]) -> list[_Watched]:
    query = """SELECT p.vm_id::text, p.host_name, h.url FROM vms_placement p
        JOIN hosts_host h ON h.id = p.host_id WHERE p.vm_id = ANY(%s::uuid[]) AND p.current"""
    return [
        _Watched(vm_id, host_name, int(url.rpartition("/h/")[2].partition("/")[0]))
        for vm_id, host_name, url in stage.ask_database(query, ids)
    ]


async def _changes(
    port: int, cookie: str, simulation: Simulation, watched: list[_Watched]
) -> list[float]:
    browser = {"Cookie": cookie}
    times = []
    host_port = int(simulation.url.rpartition(":")[2])
    async with (
        Stream(port, "/events/", browser) as stream,
        Client(port, browser) as client,
        Client(host_port, {}) as person,
    ):
        for number in range(CHANGES):
            vm = watched[number % len(watched)]
            vm.state = "stopped" if vm.state == "running" else "running"
            rows = [{"name": name} for name in simulation.vm_names(vm.host) if name != vm.host_name]
            rows.append({"name": vm.host_name, "state": vm.state})
            body = json.dumps({"vms": rows}).encode()
            began = time.perf_counter()
            expect([await person.ask("PATCH", f"/control/h/{vm.host}", body)], 200)
            async with asyncio.timeout(LOST_SECONDS):
                await _shown(stream, client, vm)
            times.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.1)  # what the change rang for is over
    return times


async def _shown(stream: Stream, client: Client, vm: _Watched) -> None:
    """Return when the stream has named the VM and the VM reads as it is on its host."""
    while True:
        if await stream.names.get() == f"vm:{vm.id}":
            answer = await client.ask("GET", f"{PATH}{vm.id}/")
            expect([answer], 200)
            if json.loads(answer.body)["state"] == vm.state:
                return
