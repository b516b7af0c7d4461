"""Pages and lists of a large pool: 1,000 hosts and 10,000 VMs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.bench.load import Client, expect
from tests.bench.results import Bar, Result, median, percentile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.stage import Stage, Stages

SMALL = (20, 200)
LARGE = (1000, 10_000)
ROUNDS = 3
CALLS = 25

# path: what it is, and its bar for the p95 in milliseconds
PAGES = {
    "/": ("overview page", Bar(300)),
    "/hosts/": ("hosts page", None),
    "/vms/": ("VMs page", None),
    "/api/v2/vms/": ("API list of VMs", None),
    "/api/v2/hosts/": ("API list of hosts", None),
}


def measure(stages: Stages) -> Iterator[Result]:
    """Fill a database and ask for pages as an administrator's browser."""
    with stages.stage() as stage:
        cookie = stage.inside("rows:accounts")["cookie"]
        template = stage.inside("rows:template", name="ubuntu-ci")
        few = _fill_and_count(stage, template, cookie, SMALL, (0, 0))
        many = _fill_and_count(stage, template, cookie, LARGE, SMALL)
        stage.start("web")
        stage.wait_answering()
        size = f"{LARGE[0]:,} hosts, {LARGE[1]:,} VMs"
        for path, (name, bar) in PAGES.items():
            times = asyncio.run(_ask(stage.product.port, path, cookie))
            yield Result(f"{name}, p95", times, "ms", bar, note=size)
            grown = Bar(few[path])
            note = f"{few[path]} at {SMALL[0]} hosts, {SMALL[1]} VMs"
            yield Result(f"{name}, queries", many[path], "queries", grown, note=note)


def _fill_and_count(
    stage: Stage, template: str, cookie: str, size: tuple[int, int], have: tuple[int, int]
) -> dict[str, int]:
    stage.inside("rows:pool", count=size[0] - have[0], seen=True)
    stage.inside("rows:machines", count=size[1] - have[1], template_id=template)
    counts: dict[str, int] = stage.inside("counting:queries", paths=list(PAGES), cookie=cookie)
    return counts


async def _ask(port: int, path: str, cookie: str) -> float:
    """Return the median over the rounds of the p95 in milliseconds."""
    worst = []
    async with Client(port, {"Cookie": cookie}) as client:
        for _ in range(3):
            expect([await client.ask("GET", path)], 200)  # warm
        for _ in range(ROUNDS):
            answers = [await client.ask("GET", path) for _ in range(CALLS)]
            expect(answers, 200)
            worst.append(percentile([answer.seconds * 1000 for answer in answers], 95))
    return median(worst)
