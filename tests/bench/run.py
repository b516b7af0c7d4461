"""`make bench`: measure the product, print a table, write `bench-results.json`.

    python -m scripts.servers python -m tests.bench.run [WORD …]

Wants the PostgreSQL of `scripts.servers` (`TEST_POSTGRES_URL`) and Redis; starts all else itself
and stops it. Words choose measures by name (see `MEASURES`); the file then keeps what the others
measured before.
Ends with code 1 when a bar is missed or a measure fails.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

from tests.bench import chain, following, pages, planning, results, revoking
from tests.bench.results import Bar, Result, median
from tests.bench.stage import Stages
from tests.support.simulation import simulated_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_SECONDS = 570  # the whole run is over by then, whatever hangs
POLLED_HOSTS, VMS_PER_HOST, POLL_ROUNDS, INVENTORIES = 1000, 10, 5, 250
PLACING_HOSTS, PLACED_VMS, PLACING_ROUNDS = 100, 300, 3


def measure_polling(stages: Stages) -> Iterator[Result]:
    """Poll a large simulated pool in one process."""
    options = ("--vms", str(VMS_PER_HOST))
    with simulated_hosts(POLLED_HOSTS, *options) as simulation, stages.stage() as stage:
        stage.inside("rows:pool", count=POLLED_HOSTS, simulator_url=simulation.url)
        found = stage.inside("polling:measure", rounds=POLL_ROUNDS, inventories=INVENTORIES)
    hosts = f"{POLLED_HOSTS:,} hosts"
    # 1,000 hosts each ten seconds are 100 a second.
    yield Result("hosts polled", median(found["rate"]), "hosts/s", Bar(100, True), "450-610", hosts)
    yield Result("CPU per poll", median(found["cpu"]), "ms/host", None, "1.5-1.9 (driver)", hosts)
    first = f"{INVENTORIES} new hosts, {VMS_PER_HOST} VMs each"
    yield Result("inventories", found["inventory_rate"][0], "hosts/s", note=first)
    yield Result("CPU per inventory", found["inventory_cpu"][0], "ms/host", note=first)


def measure_placement(stages: Stages) -> Iterator[Result]:
    """Place a queue of VMs in one process."""
    with stages.stage() as stage:
        stage.inside("rows:accounts")
        stage.inside("rows:pool", count=PLACING_HOSTS, seen=True)
        template = stage.inside("rows:template", name="ubuntu-ci")
        found = stage.inside(
            "placing:measure", rounds=PLACING_ROUNDS, vms=PLACED_VMS, template_id=template
        )
    size = f"{PLACED_VMS} VMs, {PLACING_HOSTS} hosts"
    yield Result("placements", median(found["rate"]), "VMs/s", note=size)
    yield Result("CPU per placement", median(found["cpu"]), "ms/VM", note=size)
    yield Result("pass over a full pool", median(found["full_ms"]), "ms", note=size)


MEASURES: dict[str, Callable[[Stages], Iterator[Result]]] = {
    "polling": measure_polling,
    "placement": measure_placement,
    "chain": chain.measure,
    "following": following.measure,
    "revoking": revoking.measure,
    "planning": planning.measure,
    "pages": pages.measure,
}


def main(words: list[str]) -> int:
    """Run the measures; return the exit code."""
    if unknown := set(words) - MEASURES.keys():
        say(f"There is no measure {', '.join(sorted(unknown))}; use: {', '.join(MEASURES)}.")
        return 2
    postgres_url = os.environ.get("TEST_POSTGRES_URL", "")
    if not postgres_url:
        say("TEST_POSTGRES_URL is not set. Run `make bench`, which starts PostgreSQL.")
        return 2
    # Ending by exception stops every process that a measure has started.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(LIMIT_SECONDS)
    about = results.about()
    stages = Stages(postgres_url)
    done: list[Result] = []
    try:
        for name, measure in MEASURES.items():
            if not words or name in words:
                run_one(name, measure, stages, done)
    except OutOfTime as error:
        done.append(Result("the whole run", None, "", note=str(error)))
    signal.alarm(0)
    results.show(done)
    results.write(done, about, partial=bool(words))
    say(f"written to {results.FILE.name}")
    return int(any(result.met is False or result.value is None for result in done))


def run_one(
    name: str, measure: Callable[[Stages], Iterator[Result]], stages: Stages, done: list[Result]
) -> None:
    """Add the results of a measure to `done`; one that fails adds a result that says so."""
    say(f"measuring {name} …")
    began = time.monotonic()
    try:
        for result in measure(stages):
            done.append(result)  # what was measured before a failure is kept
    except OutOfTime:
        raise
    except Exception as error:
        traceback.print_exc()
        done.append(Result(name, None, "", note=str(error).strip().splitlines()[-1][:120]))
    say(f"  {time.monotonic() - began:.0f} s")


class OutOfTime(Exception):
    """The run took too long."""


def out_of_time(*_: object) -> None:
    raise OutOfTime(f"The bench did not end within {LIMIT_SECONDS} s.")


def stop(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
