"""What a run's policy adds to its plan: gates after batches, points of approval."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deployments.planning import Block, Kind, Operation, Step, leaf, parallel
from deployments.planning.stages import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deployments.prepared import Prepared

FIRST, LAST = 0, 100  # orders: PRE_FLIGHT, POST_FLIGHT
BALANCER = "sequential-by-loadbalancer"
GATE = "health gate"  # made the leaves that look at VMs after a batch
APPROVAL = "approval"


def whole_plan(prepared: Prepared) -> Block | None:
    """Return the plan that a task of `prepared` runs, with what its policy adds, numbered.

    What is undeployed is not there any more to be healthy, so nothing looks at it.
    """
    if prepared.plan is None:
        return None
    policy = dict(prepared.policy)
    if prepared.operation is Operation.DESTROY:
        policy.pop("gate", None)
    names = {delta.container: delta.container_name for delta in prepared.deltas}
    return number(with_policy(prepared.plan, policy, names))


def share_of(wanted: int | str, whole: int) -> int:
    """Return a count: as it is, or the share of `whole` that `25%` means, rounded down."""
    if isinstance(wanted, str):
        return whole * int(wanted.removesuffix("%")) // 100
    return wanted


def with_policy(
    plan: Block, policy: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> Block:
    """Return the plan with the leaves that its policy adds.

    A batch is a leaf or a parallel block that an orchestrator put into a serial one; or else the
    whole plan. After each comes the gate, which looks at the VMs that it touched, all at once; and
    before each further one the approvals of batches. `names` are those of containers, by path.
    """
    approvals = policy.get("approvals", [])
    gate = policy.get("gate")
    between = [one for one in approvals if one["at"] == "batch"]
    made = plan
    if gate or between:
        made = _Batches(gate, between, names or {}).within(plan)
    # What the gates were put into is serial already: its children stand beside the approvals.
    whole = made.children if made is not plan and not made.made_by else (made,)
    around = [
        *(_approval(one) for one in approvals if one["at"] == "start"),
        *whole,
        *(_approval(one) for one in approvals if one["at"] == "end"),
    ]
    if len(around) == len(whole):
        return made
    return Block(Kind.SERIAL, plan.label, children=tuple(around))


class _Batches:
    """Walks a plan and puts gates and approvals around its batches."""

    def __init__(
        self,
        gate: Mapping[str, Any] | None,
        approvals: Iterable[Mapping[str, Any]],
        names: Mapping[str, str],
    ) -> None:
        self.gate = gate
        self.names = names
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
        if self.gate and (check := _gate(batch, self.gate, self.names)):
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


def _gate(batch: list[Block], gate: Mapping[str, Any], names: Mapping[str, str]) -> Block | None:
    """Return what looks at every VM that a batch touches, all at once; None: it touches none."""
    leaves = [
        replace(
            leaf(f"Health of {name}", [], path),
            made_by=GATE,
            steps=(
                Step(
                    LAST,
                    f"Check the health of {name}",
                    action={"kind": "check", "container": dict(container), **gate},
                ),
            ),
        )
        for path, name, container in _touched(batch, names)
    ]
    if not leaves:
        return None
    label = f"Check the health after {batch[0].label}"
    if len(leaves) == 1:
        return replace(leaves[0], label=label)
    return replace(parallel(label, leaves), made_by=GATE)


def _touched(
    batch: list[Block], names: Mapping[str, str]
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield the VMs that a batch touches and does not delete: path, name, container.

    One that a step makes has no path yet: its container names the deployed that makes it.
    """
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for block in (one for whole in batch for one in whole.leaves()):
        for step in block.steps:
            kind, container = step.action.get("kind"), step.action.get("container", {})
            if kind == "vm.create":
                deployed = list(step.action["deployed"])
                name = str(step.action.get("name") or deployed[0])
                found["created:" + "@".join(deployed)] = (name, {"created": deployed})
            elif vm := container.get("vm"):
                if kind == "vm.delete":
                    found.pop(f"vm:{vm}", None)
                else:
                    name = names.get(f"vm:{vm}") or block.key or block.label
                    found.setdefault(f"vm:{vm}", (name, container))
    for path, (name, container) in found.items():
        yield path, name, container


def _approval(approval: Mapping[str, Any]) -> Block:
    action = {"kind": "approval", **approval}
    step = Step(FIRST, f"Wait for approval: {approval['name']}", action=action)
    return replace(leaf(f"Approval: {approval['name']}", []), steps=(step,), made_by=APPROVAL)
