"""How soon a revocation acts, while pipelines go on asking for VMs."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.chain import HOSTS, INSTANT, LARGE, PATH, Run
from tests.bench.load import Client, Stream, expect
from tests.bench.results import Bar, Result
from tests.support.product import until
from tests.support.simulation import simulated_hosts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.bench.load import Answer
    from tests.bench.stage import Stage, Stages

RUNNING = 20
TOKENS = 5
CLIENTS = 10
RATE = 50.0  # requests a second of all clients together
BEFORE_SECONDS = AFTER_SECONDS = 3.0

ACCEPTED_SECONDS = 1.0
STREAM_SECONDS = 2.0
DELETED_SECONDS = 5.0
TOO_LONG_SECONDS = 60


@dataclass(frozen=True)
class _Asked:
    """One create: by which token, and what was answered."""

    token: str
    answer: Answer


@dataclass(frozen=True)
class _Revoked:
    """When the revocation was asked for and answered, in wall time, and the load around it."""

    began: float
    done: float
    asked: list[_Asked]

    def accepted_after(self, tokens: set[str]) -> list[float]:
        """Return how long after the revocation's answer each create was sent that was accepted."""
        return [
            one.answer.began - self.done
            for one in self.asked
            if one.token in tokens and one.answer.status == 202 and one.answer.began > self.done
        ]


def measure(stages: Stages) -> Iterator[Result]:
    """Revoke a token, then the grant of all, and look until when it could still be used."""
    with simulated_hosts(HOSTS, *LARGE, *INSTANT) as simulation, stages.stage() as stage:
        accounts = stage.inside("rows:accounts")
        stage.inside("rows:pool", count=HOSTS, simulator_url=simulation.url)
        stage.inside("rows:template", name="ubuntu-ci")
        tokens = stage.inside("rows:tokens", count=TOKENS)
        run = Run(stage, {"Authorization": f"Bearer {accounts['bob']}"})
        stage.start("web", "steps", "calls", "beat", "watcher")
        stage.wait_ready()
        run.wait_for_hosts()
        answers, _ = run.ask_many("ubuntu-ci", 4, RUNNING // 4)
        run.until_running(answers)
        stage.inside("rows:cordon")  # what is asked for from now on waits
        texts = [token["text"] for token in tokens]
        admin = {"Authorization": f"Bearer {accounts['alice']}"}

        path = f"/api/v2/tokens/{tokens[0]['id']}/revoke/"
        revoked, closed = asyncio.run(_revoke(stage, admin, path, texts))
        yield from _results("token", revoked, set(texts[:1]), set(texts[1:]))
        if closed is None:
            yield Result("stream of a revoked token ends", None, "s", note="it did not end")
        else:
            bar = Bar(STREAM_SECONDS)
            yield Result("stream of a revoked token ends", closed - revoked.began, "s", bar)

        grant = stage.inside("rows:grant_of", template_name="ubuntu-ci")
        path = f"/api/v2/grants/{grant}/revoke/"
        revoked, _ = asyncio.run(_revoke(stage, admin, path, texts[1:]))
        yield from _results("grant", revoked, set(texts), set())
        deleted = _when_deleted(stage) - revoked.began
        if left := simulation.all_vm_names():
            raise RuntimeError(f"{len(left)} VMs are still on their hosts.")
        yield Result(
            "VMs of a revoked grant are deleted",
            deleted,
            "s",
            Bar(DELETED_SECONDS),
            note=f"{RUNNING} that ran; from sending the revocation",
        )


async def _revoke(
    stage: Stage, admin: dict[str, str], path: str, tokens: list[str]
) -> tuple[_Revoked, float | None]:
    """Revoke within a load of creates; return what came of it, and when the stream ended of the
    first token, if it did.
    """
    port = stage.product.port
    stream = Stream(port, "/api/v2/events/", {"Authorization": f"Bearer {tokens[0]}"})
    async with stream, Client(port, admin) as revoker:
        async with _load(port, tokens) as asked:
            await asyncio.sleep(BEFORE_SECONDS)
            body = json.dumps({"running_vms": "delete"}).encode()
            answer = await revoker.ask("POST", path, body)
            expect([answer], 200, 202)
            done = time.time()
            await asyncio.sleep(AFTER_SECONDS)
        closed = stream.ended.result() if stream.ended.done() else None
    return _Revoked(answer.began, done, asked), closed


@asynccontextmanager
async def _load(port: int, tokens: list[str]) -> AsyncIterator[list[_Asked]]:
    """Ask for VMs at `RATE` within the block, with each token in turn."""
    asked: list[_Asked] = []
    body = json.dumps({"template": "ubuntu-ci"}).encode()
    start = time.perf_counter()

    async def work(number: int) -> None:
        token = tokens[number % len(tokens)]
        async with Client(port, {"Authorization": f"Bearer {token}"}) as client:
            turn = start + number / RATE
            while True:
                await asyncio.sleep(max(0.0, turn - time.perf_counter()))
                asked.append(_Asked(token, await client.ask("POST", PATH, body)))
                turn = max(turn + CLIENTS / RATE, time.perf_counter())

    tasks = [asyncio.create_task(work(number)) for number in range(CLIENTS)]
    try:
        yield asked
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for one in ended:
            if not isinstance(one, asyncio.CancelledError):
                raise RuntimeError("A client of the load ended by itself.") from one


def _results(kind: str, revoked: _Revoked, hit: set[str], spared: set[str]) -> Iterator[Result]:
    statuses = Counter(one.answer.status for one in revoked.asked)
    if unexpected := statuses.keys() - {202, 401, 403}:
        raise RuntimeError(f"Creates were answered with {sorted(unexpected)}.")
    after = [one for one in revoked.asked if one.answer.began > revoked.done]
    if not any(one.token in hit for one in after):
        raise RuntimeError("Nothing was asked for after the revocation.")
    if any(one.answer.status != 202 for one in after if one.token in spared):
        raise RuntimeError("A token that was not revoked was refused.")
    seconds = max(one.answer.began for one in revoked.asked) - min(
        one.answer.began for one in revoked.asked
    )
    load = f"{len(revoked.asked) / seconds:.0f} creates/s, {TOKENS} tokens"
    late = revoked.accepted_after(hit)
    took = (revoked.done - revoked.began) * 1000
    hits = f"{statuses[202]} creates accepted before"
    yield Result(f"revoking a {kind}", took, "ms", note=hits)
    yield Result(f"{kind} revoked, accepted after", len(late), "creates", Bar(0), note=load)
    latest = max(late, default=0.0) * 1000
    bar = Bar(ACCEPTED_SECONDS * 1000)
    yield Result(f"{kind} revoked, latest accepted", latest, "ms", bar, note=load)


def _when_deleted(stage: Stage) -> float:
    """Wait until each VM that has a host is deleted; return when the last one was."""
    query = """SELECT count(*) FILTER (WHERE ended_at IS NULL),
        extract(epoch FROM max(ended_at))::float8
        FROM vms_virtualmachine WHERE host_id IS NOT NULL"""
    until(lambda: stage.ask_database(query)[0][0] == 0, TOO_LONG_SECONDS, "all VMs are deleted")
    latest: float = stage.ask_database(query)[0][1]
    return latest
