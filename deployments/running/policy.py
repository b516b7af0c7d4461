"""What a run's policy adds to its plan: gates after batches, points of approval."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deployments.planning import Block, Kind, Step, leaf

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FIRST, LAST = 0, 100  # orders: PRE_FLIGHT, POST_FLIGHT
BALANCER = "sequential-by-loadbalancer"


def share_of(wanted: int | str, whole: int) -> int:
    """Return a count: as it is, or the share of `whole` that `25%` means, rounded down."""
    if isinstance(wanted, str):
        return whole * int(wanted.removesuffix("%")) // 100
    return wanted


def with_policy(plan: Block, policy: Mapping[str, Any]) -> Block:
    """Return the plan with the leaves that its policy adds.

    A batch is a leaf or a parallel block that an orchestrator put into a serial one; or else the
    whole plan. After each comes the gate, which looks at the VMs that it touched, and before each
    further one the approvals of batches.
    """
    approvals = policy.get("approvals", [])
    gate = policy.get("gate")
    between = [one for one in approvals if one["at"] == "batch"]
    made = plan
    if gate or between:
        made = _Batches(gate, between).within(plan)
    around = [
        *(_approval(one) for one in approvals if one["at"] == "start"),
        made,
        *(_approval(one) for one in approvals if one["at"] == "end"),
    ]
    return made if len(around) == 1 else Block(Kind.SERIAL, plan.label, children=tuple(around))


class _Batches:
    """Walks a plan and puts gates and approvals around its batches."""

    def __init__(
        self, gate: Mapping[str, Any] | None, approvals: Iterable[Mapping[str, Any]]
    ) -> None:
        self.gate = gate
        self.approvals = list(approvals)
        self.begun = False

    def within(self, block: Block) -> Block:
        if block.kind is not Kind.SERIAL:
            return Block(Kind.SERIAL, block.label, children=tuple(self._around([block])))
        children: list[Block] = []
        for batch in _runs(block.children):
            if batch[0].kind is Kind.SERIAL:
                children.append(self.within(batch[0]))
            elif batch[0].made_by and not batch[0].made_by.startswith(BALANCER):
                children += self._around(batch)
            else:  # before and after the plan, in and out of a balancer's pool
                children += batch
        return replace(block, children=tuple(children))

    def _around(self, batch: list[Block]) -> Iterable[Block]:
        if self.begun:
            yield from map(_approval, self.approvals)
        self.begun = True
        yield from batch
        if self.gate and (check := _gate(batch, self.gate)):
            yield check


def _runs(blocks: Iterable[Block]) -> Iterable[list[Block]]:
    """Yield blocks that are one batch: a leaf that was split into several is one still."""
    run: list[Block] = []
    for block in blocks:
        same = run and block.is_leaf and run[0].is_leaf and block.key and block.key == run[0].key
        if run and not same:
            yield run
            run = []
        run.append(block)
    if run:
        yield run


def _gate(batch: list[Block], gate: Mapping[str, Any]) -> Block | None:
    """Return the leaf that looks at every VM that a batch touches; None: it touches none."""
    seen: dict[str, tuple[dict[str, str], str]] = {}
    for one in (found for block in batch for found in block.leaves()):
        for step in one.steps:
            container = step.action.get("container", {})
            if "vm" in container:
                seen.setdefault(container["vm"], (container, one.key or one.label))
    if not seen:
        return None
    steps = [
        Step(
            LAST,
            f"Check the health of {name}",
            action={"kind": "check", "container": container, **gate},
        )
        for container, name in seen.values()
    ]
    return replace(leaf(f"Check the health after {batch[0].label}", []), steps=tuple(steps))


def _approval(approval: Mapping[str, Any]) -> Block:
    action = {"kind": "approval", **approval}
    step = Step(FIRST, f"Wait for approval: {approval['name']}", action=action)
    return replace(leaf(f"Approval: {approval['name']}", []), steps=(step,))
