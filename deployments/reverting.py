"""A deployment taken back by snapshots: VMs go back to what they were, without inverse steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from deployments.planning import Block, Kind, Operation, Step, parallel
from deployments.planning.stages import number, simplify
from deployments.prepared import DeltaView, Warning
from deployments.types.base import SNAPSHOT_FIRST, SNAPSHOT_LAST, START, reference
from deployments.wording import some

MADE_BY = "snapshots"
WAIT_SECONDS = 300


class Revert(NamedTuple):
    """A VM and the snapshot that a task took of it before it changed anything there."""

    path: str  # vm:<id>
    vm: str  # its name
    snapshot: str  # the host's id
    name: str
    with_memory: bool  # it ran then, and runs again
    drop: bool  # the task would have dropped it at its end


def tree_of(label: str, reverts: Sequence[Revert], deltas: Iterable[DeltaView]) -> Block | None:
    """Return the plan: all VMs at once, each reverted, awaited where it ran, its snapshot dropped.

    The revert is the checkpoint of everything that the deployment changed on the VM.
    """
    changed: dict[str, list[tuple[str, str]]] = {}
    for delta in deltas:
        if delta.operation is not Operation.NOOP:
            changed.setdefault(delta.container, []).append(delta.key)
    leaves = [
        Block(
            Kind.INTERLEAVED,
            f"Revert {one.vm}",
            steps=_steps(one, tuple(changed.get(one.path, ()))),
            made_by=MADE_BY,
            key=one.path,
        )
        for one in sorted(reverts, key=lambda one: (one.vm, one.path))
    ]
    tree = simplify(parallel(label, leaves))
    return number(tree) if tree else None


def _steps(one: Revert, deployeds: tuple[tuple[str, str], ...]) -> tuple[Step, ...]:
    def step(order: int, text: str, kind: str, **action: Any) -> Step:
        action = {"kind": kind, "container": reference(one.path), **action}
        return Step(order, text, deployeds=deployeds, action=action)

    which = {"name": one.name, "snapshot": one.snapshot}
    text = f"Revert {one.vm} to the snapshot {one.name}"
    reverted = step(SNAPSHOT_FIRST, text, "vm.snapshot", do="revert", **which)
    steps = [replace(reverted, checkpoint=True)]
    if one.with_memory:
        words = {"for": "agent", "deadline_seconds": WAIT_SECONDS}
        steps.append(step(START + 1, f"Wait for the guest of {one.vm}", "vm.wait", **words))
    if one.drop:
        text = f"Drop the snapshot {one.name} of {one.vm}"
        steps.append(step(SNAPSHOT_LAST, text, "vm.snapshot", do="drop", **which))
    return tuple(steps)


def lost(reverts: Sequence[Revert]) -> Warning:
    """Return the warning that goes with it."""
    names = some(sorted(one.vm for one in reverts))
    text = f"Everything written on {names} since the snapshot is lost, whoever wrote it."
    return Warning("data_lost", text)
