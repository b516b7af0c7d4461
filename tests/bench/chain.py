"""The running product: creates over the API, from there to running VMs, and held calls."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.load import Client, expect, together
from tests.bench.results import Bar, Result, median, percentile
from tests.support.product import until
from tests.support.simulation import simulated_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.load import Answer
    from tests.bench.stage import Stage, Stages

HOSTS = 20
CLIENTS = 32
ROUNDS = 3
CREATES_EACH = 10
SINGLE_CREATES = 30
CHAIN_CLIENTS = 16
CHAIN_EACH = 6
HELD = 200
HEALTH_CALLS = 300
AWAY_CREATES = 5

PATH = "/api/v2/vms/"
LARGE = ("--cpus", "512", "--memory", "4194304", "--disk", "100000")
INSTANT = ("--boot-seconds", "0", "--clone-seconds", "0")


def measure(stages: Stages) -> Iterator[Result]:
    """Start the product with a pool that boots in no time, and measure it."""
    with simulated_hosts(HOSTS, *LARGE, *INSTANT) as simulation, stages.stage() as stage:
        accounts = stage.inside("rows:accounts")
        stage.inside("rows:pool", count=HOSTS, simulator_url=simulation.url)
        stage.inside("rows:template", name="ubuntu-ci")
        stage.inside("rows:template", name="nowhere", host_tags=["nobody-has-this"])
        run = Run(stage, {"Authorization": f"Bearer {accounts['bob']}"})
        stage.start("web")
        stage.wait_answering()
        yield from run.creates()
        stage.start("steps", "calls", "beat")
        stage.wait_ready()
        run.wait_for_hosts()
        yield from run.single()
        yield from run.whole_chain()
        yield from run.held()
        yield from memory(stage)
        yield from run.broker_away()


class Run:
    """What asks the product of one stage, with one token."""

    def __init__(self, stage: Stage, headers: dict[str, str]) -> None:
        self.stage = stage
        self.headers = headers
        self.port = stage.product.port

    def wait_for_hosts(self) -> None:
        """Wait until the product's own polling has found every host."""
        query = """SELECT count(*) FROM hosts_hoststatus s JOIN hosts_hostcapacity c USING (host_id)
            WHERE s.health = 'healthy' AND c.cpus_total > 0"""
        until(lambda: self.stage.ask_database(query)[0][0] == HOSTS, 60, "hosts are healthy")

    def creates(self) -> Iterator[Result]:
        """Create with many clients. No host fits, and no worker takes the time of the web."""
        self.ask_many("nowhere", CLIENTS, 2)  # warm
        rates, middles, slowest, cpu = [], [], [], []
        for _ in range(ROUNDS):
            before = self._cpu()
            answers, seconds = self.ask_many("nowhere", CLIENTS, CREATES_EACH)
            times = [answer.seconds * 1000 for answer in answers]
            rates.append(len(answers) / seconds)
            middles.append(percentile(times, 50))
            slowest.append(percentile(times, 99))
            cpu.append((self._cpu() - before) / len(answers) * 1000)
        self.stage.inside("rows:forget_pending")
        yield Result(
            "API creates",
            median(rates),
            "requests/s",
            reference="99 (8 clients)",
            note="32 clients",
        )
        yield Result("API creates, p50", median(middles), "ms", note="32 clients")
        yield Result("API creates, p99", median(slowest), "ms", note="32 clients")
        yield Result("CPU per API create", median(cpu), "ms", reference="13", note="web process")

    def ask_many(self, template: str, clients: int, each: int) -> tuple[list[Answer], float]:
        body = json.dumps({"template": template}).encode()
        answers, seconds = asyncio.run(
            together(
                self.port,
                self.headers,
                clients,
                each,
                lambda client: client.ask("POST", PATH, body),
            )
        )
        expect(answers, 202)
        return answers, seconds

    def _cpu(self) -> float:
        """Return the seconds of CPU that the product's processes have used: load on the machine
        hardly changes them.
        """
        return sum(cpu_seconds(child.pid) for child in self.stage.product.processes.values())

    def _ask_one(self) -> Answer:
        return self.ask_many("ubuntu-ci", 1, 1)[0][0]

    def single(self) -> Iterator[Result]:
        """Create one VM after the other: what the product adds to a host that takes no time."""
        for _ in range(3):
            self.until_running([self._ask_one()])
        times = []
        for _ in range(SINGLE_CREATES):
            answer = self._ask_one()
            times.append((self.until_running([answer])[0] - answer.began) * 1000)
        reference = "146 / 304 / 574 (poll each 0.25 / 0.5 / 1 s)"
        yield Result("create to running, p50", percentile(times, 50), "ms", reference=reference)
        yield Result("create to running, p95", percentile(times, 95), "ms")

    def whole_chain(self) -> Iterator[Result]:
        """Create many at once and wait until the last one runs; then delete all of them."""
        rates, cpu, ends_rates, ends_cpu = [], [], [], []
        for _ in range(ROUNDS):
            before = self._cpu()
            answers, _ = self.ask_many("ubuntu-ci", CHAIN_CLIENTS, CHAIN_EACH)
            ends = self.until_running(answers)
            rates.append(len(ends) / (max(ends) - min(answer.began for answer in answers)))
            cpu.append((self._cpu() - before) / len(ends) * 1000)
            before = self._cpu()
            began, gone = self._delete_all(answers)
            ends_rates.append(len(ends) / (gone - began))
            ends_cpu.append((self._cpu() - before) / len(ends) * 1000)
        note = f"{CHAIN_CLIENTS * CHAIN_EACH} at once"
        yield Result("whole chain", median(rates), "VMs/s", reference="60-80", note=note)
        yield Result(
            "CPU per VM", median(cpu), "ms", note="web, workers and beat, without database"
        )
        yield Result("deletes to proven gone", median(ends_rates), "VMs/s", note=note)
        yield Result("CPU per delete", median(ends_cpu), "ms", note="as above")

    def _delete_all(self, answers: list[Answer]) -> tuple[float, float]:
        """Delete VMs with many clients; return when that began, and when the last was gone."""
        ids = [json.loads(answer.body)["id"] for answer in answers]
        left = iter(ids)
        deleted, _ = asyncio.run(
            together(
                self.port,
                self.headers,
                CHAIN_CLIENTS,
                len(ids) // CHAIN_CLIENTS,
                lambda client: client.ask("DELETE", f"{PATH}{next(left)}/"),
            )
        )
        expect(deleted, 202)
        query = """SELECT count(*), extract(epoch FROM max(ended_at))::float8
            FROM vms_virtualmachine WHERE id = ANY(%s::uuid[]) AND state = 'deleted'"""

        def all_gone() -> float | None:
            count, latest = self.stage.ask_database(query, ids)[0]
            return latest if count == len(ids) else None

        gone: float = until(all_gone, 60, f"{len(ids)} VMs are deleted")
        return min(answer.began for answer in deleted), gone

    def until_running(self, answers: list[Answer]) -> list[float]:
        """Return when each VM came to run, by the database."""
        ids = [json.loads(answer.body)["id"] for answer in answers]
        query = """SELECT extract(epoch FROM changed_at)::float8 FROM vms_virtualmachine
            WHERE id = ANY(%s::uuid[]) AND state = 'running'"""

        def all_run() -> list[float] | None:
            moments = [moment for (moment,) in self.stage.ask_database(query, ids)]
            return moments if len(moments) == len(ids) else None

        moments: list[float] = until(all_run, 60, f"{len(ids)} VMs run")
        return moments

    def held(self) -> Iterator[Result]:
        """Ask for a sign of life while calls are held that nothing will end."""
        idle = asyncio.run(self._health())
        held = asyncio.run(self._health_with_held_calls())
        self.stage.inside("rows:forget_pending")
        yield Result("/healthz, p50", percentile(idle, 50), "ms", note="no held calls")
        yield Result("/healthz, p99", percentile(idle, 99), "ms", note="no held calls")
        yield Result("/healthz held, p50", percentile(held, 50), "ms", note=f"{HELD} held calls")
        yield Result("/healthz held, p99", percentile(held, 99), "ms", Bar(200), note="the same")

    async def _health(self) -> list[float]:
        times = []
        async with Client(self.port, {}) as client:
            for _ in range(HEALTH_CALLS):
                answer = await client.ask("GET", "/healthz")
                expect([answer], 200)
                times.append(answer.seconds * 1000)
                await asyncio.sleep(0.01)  # a look now and then over some seconds, not a load
        return times

    async def _health_with_held_calls(self) -> list[float]:
        body = json.dumps({"template": "nowhere"}).encode()
        async with AsyncExitStack() as stack:
            waiting = [
                await stack.enter_async_context(Client(self.port, self.headers))
                for _ in range(HELD)
            ]
            for client in waiting:
                client.send("POST", PATH, body, extra="Prefer: wait=60\r\n")
            query = "SELECT count(*) FROM vms_virtualmachine WHERE state = 'pending'"
            end = time.monotonic() + 30
            while self.stage.ask_database(query)[0][0] < HELD:
                if time.monotonic() > end:
                    raise RuntimeError("The calls to be held were not accepted within 30 s.")
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)  # what the creates rang for is over
            times = await self._health()
            if any(client.answered for client in waiting):
                raise RuntimeError("Some of the held calls were answered.")
        return times

    def broker_away(self) -> Iterator[Result]:
        """Create with the broker stopped."""
        self.stage.redis.stop()
        times = [self._ask_one().seconds * 1000 for _ in range(AWAY_CREATES)]
        note = f"slowest of {AWAY_CREATES}"
        yield Result("POST, broker away", max(times), "ms", Bar(1000), note=note)


def memory(stage: Stage) -> Iterator[Result]:
    """Return the resident memory of each of the product's processes."""
    sizes = {name: _resident_mib(child.pid) for name, child in stage.product.processes.items()}
    yield Result("memory, all processes", sum(sizes.values()), "MiB", note=f"{len(sizes)} of them")
    for name, size in sizes.items():
        yield Result(f"memory, {name}", size, "MiB")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    status: dict[str, Any] = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(status["VmRSS"].split()[0]) / 1024
