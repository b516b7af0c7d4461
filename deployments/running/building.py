"""From a plan to the rows of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployments.models.tasks import Block, Step, Task
from deployments.planning import Kind
from orchestrator.db.ids import uuid7
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deployments import planning

ROOT = "0"
REGISTER = "register"
PAUSE = "pause"
MAXIMUM_STEPS = 20_000
# Running these a second time does no harm, whoever wrote them.
SAFE = frozenset(
    {
        *("wait", "check", "manual", PAUSE, "approval", REGISTER, "vm.wait"),
        *("vm.upload", "config.write", "vm.remove_file", "config.remove"),
        *("vm.unpack", "vm.remove_unpacked"),
    }
)


def build(task: Task, plan: planning.Block | None) -> None:
    """Store the blocks and steps of `plan`, in phases, for a new task.

    Path `0` is the whole, `0_1` its deployment phase with the plan as `0_1_1`, and the last phase
    registers what was done; without steps to run that phase is the only one. Raises `Invalid` for a
    plan that is too large.
    """
    maker = _Maker(task)
    root = maker.block(None, 1, ROOT, Block.Kind.SERIAL, task.title)
    if plan is not None:
        phase = maker.block(root, 1, f"{ROOT}_1", Block.Kind.SERIAL, "Deployment")
        maker.plan(phase, 1, plan)
    number = 2 if plan is not None else 1
    words = f"Register changes for {task.title}"
    path = f"{ROOT}_{number}"
    phase = maker.block(root, number, path, Block.Kind.SERIAL, words, always=True)
    leaf = maker.block(phase, 1, f"{path}_1", Block.Kind.INTERLEAVED, words, always=True)
    maker.step(leaf, 1, 100, "Register deployeds", {"kind": REGISTER})
    maker.save()


class _Maker:
    def __init__(self, task: Task) -> None:
        self.task = task
        self.blocks: list[Block] = []
        self.steps: list[Step] = []

    def block(
        self, parent: Block | None, position: int, path: str, kind: str, label: str, **more: Any
    ) -> Block:
        made = Block(
            pk=uuid7(),
            task=self.task,
            parent=parent,
            position=position,
            path=path,
            kind=kind,
            label=label[:500],
            **more,
        )
        self.blocks.append(made)
        return made

    def step(
        self,
        leaf: Block,
        position: int,
        order: int,
        text: str,
        action: dict[str, Any],
        *,
        deployeds: Iterable[tuple[str, str]] = (),
        checkpoint: bool = False,
    ) -> None:
        kind = action.get("kind", "")
        self.steps.append(
            Step(
                task=self.task,
                block=leaf,
                position=position,
                number=len(self.steps) + 1,
                order=order,
                text=text[:500],
                action=action,
                kind=kind,
                subject=subject_of(action),
                deployeds=[list(pair) for pair in deployeds],
                checkpoint=checkpoint,
                repeatable=kind in SAFE or bool(action.get("repeatable")),
            )
        )

    def plan(self, parent: Block, position: int, block: planning.Block) -> None:
        made = self.block(
            parent,
            position,
            f"{parent.path}_{position}",
            Block.Kind(block.kind.value),
            block.label,
            made_by=block.made_by,
            key=block.key,
        )
        for number, child in enumerate(block.children, start=1):
            self.plan(made, number, child)
        if block.kind is Kind.INTERLEAVED:
            for number, step in enumerate(block.steps, start=1):
                self.step(
                    made,
                    number,
                    step.order,
                    step.text,
                    dict(step.action),
                    deployeds=step.deployeds,
                    checkpoint=step.checkpoint,
                )

    def save(self) -> None:
        if len(self.steps) > MAXIMUM_STEPS:
            raise Invalid(
                f"This plan has {len(self.steps)} steps; a task runs at most {MAXIMUM_STEPS}. "
                "Deploy to fewer VMs at a time."
            )
        totals = dict.fromkeys((block.pk for block in self.blocks), 0)
        by_id = {block.pk: block for block in self.blocks}
        for step in self.steps:
            above: Block | None = step.block
            while above is not None:
                totals[above.pk] += 1
                above = by_id[above.parent_id] if above.parent_id else None
        for block in self.blocks:
            block.steps_total = totals[block.pk]
        Block.objects.bulk_create(self.blocks, batch_size=500)
        Step.objects.bulk_create(self.steps, batch_size=500)


def subject_of(action: dict[str, Any]) -> str:
    """Return what an action acts on: `vm:<id>`, `host:<id>`, or nothing known yet."""
    container = action.get("container", {})
    for noun in ("vm", "host"):
        if noun in container:
            return f"{noun}:{container[noun]}"
    return ""
