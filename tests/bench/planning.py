"""Planning: 10,000 deltas with three orchestrators on one core, and how the time grows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deployments.planning import Container, Delta, Operation, Spec, Step, plan
from tests.bench.results import Bar, Result, median

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.stage import Stages

LARGE, SMALL, ROUNDS = 10_000, 1_000, 5
ORCHESTRATORS = (
    "sequential-by-deployment-group",
    "parallel-by-container",
    "sequential-by-deployed",
)
PER_CONTAINER = 10


def spec(count: int) -> Spec:
    """Return `count` changes, ten on each container, two steps each, in ten groups."""
    containers = [
        Container(f"vm-{number:05}", group=number % 10) for number in range(count // PER_CONTAINER)
    ]
    steps = (Step(30, "Remove the old one"), Step(70, "Put the new one"))
    deltas = tuple(
        Delta(f"app-{number}", container, Operation.CREATE, steps=steps)
        for container in containers
        for number in range(PER_CONTAINER)
    )
    return Spec(Operation.CREATE, "Shop 1.0", "Test", deltas, ORCHESTRATORS)


def seconds(count: int) -> float:
    """Return how long one plan of `count` changes takes on this core."""
    asked = spec(count)
    begun = time.process_time()
    plan(asked)
    return time.process_time() - begun


def measure(stages: Stages) -> Iterator[Result]:
    """Plan small and large deployments in this process; nothing else is needed."""
    small = median([seconds(SMALL) for _ in range(ROUNDS)])
    large = median([seconds(LARGE) for _ in range(ROUNDS)])
    size = f"{LARGE:,} deltas, {len(ORCHESTRATORS)} orchestrators"
    yield Result("a plan", large, "s CPU", Bar(1, False), note=size)
    growth = f"{LARGE:,} against {SMALL:,} deltas"
    yield Result("growth of planning", large / small, "times", Bar(15, False), note=growth)
