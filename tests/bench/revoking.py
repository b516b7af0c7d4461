"""How soon each kind of revocation acts in every web process, while pipelines go on asking."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.chain import HOSTS, INSTANT, LARGE, PATH, Run
from tests.bench.load import Client, Stream, expect, together
from tests.bench.results import Bar, Result
from tests.support.product import until
from tests.support.simulation import simulated_hosts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.bench.load import Answer
    from tests.bench.stage import Stage, Stages

RUNNING = 10  # VMs that rest on what is revoked, of each kind
CLIENTS = 10  # half of them at each web process
RATE = 50.0  # requests a second of all clients together
BEFORE_SECONDS = AFTER_SECONDS = 2.5
WEBS = ("web", "web-2")

ACCEPTED_SECONDS = 1.0
STREAM_SECONDS = 2.0
DELETED_SECONDS = 5.0
TOO_LONG_SECONDS = 60
ENDING_STREAMS = ("token", "user")  # the others leave the account something to see
LONG_COMMAND = {"command": "sleep 600", "timeout_seconds": 600}


@dataclass(frozen=True)
class Target:
    """What is revoked, how, and who asks by it; see `rows.revocable`."""

    kind: str
    account: str
    template: str
    tokens: list[str]  # those that are hit
    spared: str  # a token that the revocation does not concern, with its own template
    method: str
    path: str
    body: dict[str, Any]


@dataclass(frozen=True)
class _Asked:
    """One create: by which token, at which web process, and what was answered."""

    token: str
    port: int
    answer: Answer


@dataclass(frozen=True)
class _Revoked:
    """When the revocation was asked for and answered, in wall time, and the load around it.

    `stream` and `held` are when the stream and the held command ended; None: they did not.
    """

    began: float
    done: float
    asked: list[_Asked]
    stream: float | None
    held: float | None

    def accepted_after(self, tokens: set[str]) -> list[float]:
        """Return how long after the revocation's answer each create was sent that was accepted."""
        return [
            one.answer.began - self.done
            for one in self.asked
            if one.token in tokens and one.answer.status == 202 and one.answer.began > self.done
        ]


def measure(stages: Stages) -> Iterator[Result]:
    """Revoke one of each kind, and look until when it could still be used."""
    with simulated_hosts(HOSTS, *LARGE, *INSTANT) as simulation, stages.stage() as stage:
        accounts = stage.inside("rows:accounts")
        stage.inside("rows:pool", count=HOSTS, simulator_url=simulation.url)
        stage.inside("rows:template", name="spared")
        targets = [Target(**row) for row in stage.inside("rows:revocable", spared="spared")]
        stage.start(*WEBS, "steps", "calls", "beat", "watcher")
        stage.wait_ready()
        ports = [stage.product.port_of(name) for name in WEBS]
        until(lambda: all(map(_listens, ports)), TOO_LONG_SECONDS, "both web processes answer")
        Run(stage, {}).wait_for_hosts()
        vms = {target.kind: _fill(stage, target) for target in targets}
        stage.inside("rows:cordon")  # what is asked for from now on waits
        admin = {"Authorization": f"Bearer {accounts['alice']}"}
        for target in targets:
            revoked = asyncio.run(_revoke(ports, admin, target, vms[target.kind][0]))
            yield from _results(target, revoked)
            yield _waiting(stage, target)
            deleted = _when_deleted(stage, vms[target.kind]) - revoked.began
            note = f"{RUNNING} that ran; from sending the revocation"
            bar = Bar(DELETED_SECONDS)
            yield Result(f"VMs of a revoked {target.kind} are deleted", deleted, "s", bar, "", note)
            stage.inside("rows:forget_pending")  # what was not hit: the queue is not measured here
        if left := simulation.all_vm_names():
            raise RuntimeError(f"{len(left)} VMs are still on their hosts.")


def _listens(port: int) -> bool:
    async def ask() -> bool:
        async with Client(port, {}) as client:
            return (await client.ask("GET", "/healthz")).status == 200

    try:
        return asyncio.run(ask())
    except OSError:
        return False


def _fill(stage: Stage, target: Target) -> list[str]:
    """Make VMs that rest on the target, and wait until they run; return their ids."""
    headers = {"Authorization": f"Bearer {target.tokens[0]}"}
    body = json.dumps({"template": target.template}).encode()
    answers, _ = asyncio.run(
        together(
            stage.product.port, headers, RUNNING, 1, lambda client: client.ask("POST", PATH, body)
        )
    )
    expect(answers, 202)
    Run(stage, headers).until_running(answers)
    return [json.loads(answer.body)["id"] for answer in answers]


async def _revoke(ports: list[int], admin: dict[str, str], target: Target, vm: str) -> _Revoked:
    """Revoke at the first web process within a load of creates at all of them.

    The stream, and the command whose caller is held, are at the last.
    """
    bearer = {"Authorization": f"Bearer {target.tokens[0]}"}
    async with AsyncExitStack() as stack:
        stream = await stack.enter_async_context(Stream(ports[-1], "/api/v2/events/", bearer))
        held = await stack.enter_async_context(Client(ports[-1], bearer))
        command = json.dumps(LONG_COMMAND).encode()
        held.send("POST", f"{PATH}{vm}/execute/", command, extra="Prefer: wait=60\r\n")
        revoker = await stack.enter_async_context(Client(ports[0], admin))
        waits = asyncio.create_task(_answered(held))
        async with _load(ports, target) as asked:
            await asyncio.sleep(BEFORE_SECONDS)
            if waits.done():
                raise RuntimeError("The held command was answered before anything was revoked.")
            answer = await revoker.ask(target.method, target.path, json.dumps(target.body).encode())
            expect([answer], 200, 202)
            done = time.time()
            await asyncio.sleep(AFTER_SECONDS)
        ended = waits.result() if waits.done() else None
        waits.cancel()
        closed = stream.ended.result() if stream.ended.done() else None
    return _Revoked(answer.began, done, asked, closed, ended)


async def _answered(held: Client) -> float:
    """Return when something came back to a held call."""
    while not held.answered:
        await asyncio.sleep(0.01)
    return time.time()


@asynccontextmanager
async def _load(ports: list[int], target: Target) -> AsyncIterator[list[_Asked]]:
    """Ask for VMs at `RATE` within the block, with each token in turn at each web process."""
    asked: list[_Asked] = []
    start = time.perf_counter()
    tokens = [*target.tokens, target.spared]

    async def work(number: int) -> None:
        token, port = tokens[number // len(ports) % len(tokens)], ports[number % len(ports)]
        template = "spared" if token == target.spared else target.template
        body = json.dumps({"template": template}).encode()
        async with Client(port, {"Authorization": f"Bearer {token}"}) as client:
            turn = start + number / RATE
            while True:
                await asyncio.sleep(max(0.0, turn - time.perf_counter()))
                asked.append(_Asked(token, port, await client.ask("POST", PATH, body)))
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


def _results(target: Target, revoked: _Revoked) -> Iterator[Result]:
    kind, hit = target.kind, set(target.tokens)
    statuses = Counter(one.answer.status for one in revoked.asked)
    if unexpected := statuses.keys() - {202, 401, 403, 404}:
        raise RuntimeError(f"Creates were answered with {sorted(unexpected)}.")
    after = [one for one in revoked.asked if one.answer.began > revoked.done]
    if len({one.port for one in after if one.token in hit}) != len(WEBS):
        raise RuntimeError("Not every web process was asked after the revocation.")
    if any(one.answer.status != 202 for one in after if one.token == target.spared):
        raise RuntimeError("A token that the revocation does not concern was refused.")
    moments = [one.answer.began for one in revoked.asked]
    rate = len(moments) / (max(moments) - min(moments))
    load = f"{rate:.0f} creates/s at {len(WEBS)} web processes"
    late = revoked.accepted_after(hit)
    took = (revoked.done - revoked.began) * 1000
    hits = f"{statuses[202]} creates accepted before"
    yield Result(f"revoking a {kind}", took, "ms", note=hits)
    yield Result(f"{kind} revoked, accepted after", len(late), "creates", Bar(0), note=load)
    latest = max(late, default=0.0) * 1000
    bar = Bar(ACCEPTED_SECONDS * 1000)
    yield Result(f"{kind} revoked, latest accepted", latest, "ms", bar, note=load)
    ends = {f"held command of a revoked {kind} ends": revoked.held}
    if kind in ENDING_STREAMS:
        ends |= {f"stream of a revoked {kind} ends": revoked.stream}
    for name, moment in ends.items():
        if moment is None:
            yield Result(name, None, "s", note="it did not end")
        else:
            yield Result(name, moment - revoked.began, "s", Bar(STREAM_SECONDS))


def _waiting(stage: Stage, target: Target) -> Result:
    """Return how many of the creates that were accepted wait still."""
    query = """SELECT count(*) FROM vms_virtualmachine v
        JOIN vms_template t ON t.id = v.template_id JOIN accounts_user u ON u.id = v.requested_by_id
        WHERE v.state = 'pending' AND t.name = %s AND u.username = %s"""
    left = stage.ask_database(query, target.template, target.account)[0][0]
    return Result(f"{target.kind} revoked, still waiting", left, "VMs", Bar(0))


def _when_deleted(stage: Stage, ids: list[str]) -> float:
    """Wait until these VMs are deleted; return when the last one was."""
    query = """SELECT count(*) FILTER (WHERE ended_at IS NULL),
        extract(epoch FROM max(ended_at))::float8
        FROM vms_virtualmachine WHERE id = ANY(%s::uuid[])"""
    try:
        until(lambda: stage.ask_database(query, ids)[0][0] == 0, TOO_LONG_SECONDS, "deleted")
    except AssertionError as error:
        left = """SELECT v.name, v.state, j.kind, j.state, j.step, j.message, j.failures, j.error
            FROM vms_virtualmachine v LEFT JOIN jobs_job j ON j.subject = 'vm:' || v.id
            WHERE v.ended_at IS NULL AND v.id = ANY(%s::uuid[])"""
        raise RuntimeError(f"Not deleted: {stage.ask_database(left, ids)}") from error
    latest: float = stage.ask_database(query, ids)[0][1]
    return latest
