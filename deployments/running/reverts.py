"""Which snapshots a task can be rolled back to, and why there are none."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db.models import Min
from django.db.models.functions import Coalesce, Least

from deployments.models.tasks import Step, Task
from deployments.reverting import Revert
from deployments.states import StepState
from deployments.wording import some
from orchestrator.refusals import Conflict
from vms.models import Snapshot, VirtualMachine

if TYPE_CHECKING:
    from django.db.models import QuerySet

# What changes nothing where it acts. A person's instruction may.
HARMLESS = ("check", "wait", "vm.wait", "pause", "approval")
OTHERWISE = "Roll back by steps."


def of(task: Task, *, beside: Task | None = None) -> list[Revert]:
    """Return the snapshots that take back all that `task` did: one of each VM that it changed.

    Each was taken before the first change there, is there still, and nothing else has changed the
    VM since. Raises `Conflict` that says what is missing. `beside` is the rollback itself.
    """
    changed = _changed(task)
    if not changed:
        raise Conflict("This task has changed no VM yet. Cancel it, or roll it back by steps.")
    taken = _taken(task)
    moments = {path: step.ended_at for path, step in taken.items() if step.ended_at}
    without = [path for path, at in changed.items() if path not in moments or moments[path] > at]
    vms = {vm.subject: vm for vm in VirtualMachine.objects.filter(pk__in=_ids(changed))}
    if without:
        raise Conflict(
            f"The task took no snapshot of {_names(without, vms)} before it changed something "
            f"there. {OTHERWISE}",
            code="no_snapshot",
        )
    rows = Snapshot.objects.filter(vm__in=vms.values())
    there = {(row.vm.subject, row.host_snapshot_id): row for row in rows.select_related("vm")}
    gone = [path for path in changed if (path, taken[path].result["snapshot"]) not in there]
    if gone:
        raise Conflict(
            f"The snapshot of {_names(gone, vms)} is not there any more: it was dropped at the end "
            f"of the deployment, unless its deployable has `keep: true`, or by hand. {OTHERWISE}",
            code="snapshot_gone",
        )
    _refuse_changed_since(task, beside, {path: moments[path] for path in changed}, vms)
    dropping = _dropped(task)
    return [
        Revert(
            path,
            vms[path].name,
            row.host_snapshot_id,
            row.name,
            row.with_memory,
            (path, taken[path].action.get("name")) in dropping,
        )
        for path in sorted(changed)
        if (row := there[path, taken[path].result["snapshot"]])
    ]


def _steps(task: Task) -> QuerySet[Step]:
    return Step.objects.filter(task=task, block__always=False)


def _changed(task: Task) -> dict[str, datetime]:
    """Return the VMs where the task has begun to change something, and when it began.

    Raises `Conflict` when it did so elsewhere: what is on hosts has no snapshot.
    """
    rows = _changing(_steps(task).exclude(started_at=None, ended_at=None))
    # A step that was tried again began when its first attempt wrote something.
    rows = rows.annotate(wrote=Min("lines__at"), moment=Coalesce("started_at", "ended_at"))
    found: dict[str, datetime] = {}
    for step in rows.annotate(began=Least("moment", Coalesce("wrote", "moment"))):
        if step.action.get("do") in ("take", "drop") and step.kind == "vm.snapshot":
            continue
        if not step.subject.startswith("vm:"):
            raise Conflict(
                f"Step {step.number}, “{step.text}”, has changed something besides VMs, and no "
                f"snapshot takes that back. {OTHERWISE}",
                code="no_snapshot",
            )
        found[step.subject] = min(step.began, found.get(step.subject, step.began))
    return found


def _changing(steps: QuerySet[Step]) -> QuerySet[Step]:
    return steps.exclude(kind__in=HARMLESS)


def _taken(task: Task) -> dict[str, Step]:
    """Return the first step of each VM that took a snapshot."""
    rows = _steps(task).filter(kind="vm.snapshot", state=StepState.DONE, action__do="take")
    found: dict[str, Step] = {}
    for step in rows.order_by("ended_at", "number"):
        if step.result.get("snapshot"):
            found.setdefault(step.subject, step)
    return found


def _dropped(task: Task) -> set[tuple[str, Any]]:
    rows = _steps(task).filter(kind="vm.snapshot", action__do="drop")
    return {(step.subject, step.action.get("name")) for step in rows}


def _refuse_changed_since(
    task: Task,
    beside: Task | None,
    moments: dict[str, datetime],
    vms: dict[str, VirtualMachine],
) -> None:
    rows = Step.objects.filter(subject__in=moments, started_at__gt=min(moments.values()))
    rows = _changing(rows.exclude(task=task)).select_related("task")
    if beside is not None:
        rows = rows.exclude(task=beside)
    for step in rows.order_by("started_at"):
        harmless = step.kind == "vm.snapshot" and step.action.get("do") != "revert"
        if harmless or step.started_at is None or step.started_at <= moments[step.subject]:
            continue
        raise Conflict(
            f"Another task, {step.task.title}, has changed {vms[step.subject].name} since the "
            f"snapshot, and its work would be lost. {OTHERWISE}",
            code="changed_since",
        )


def _ids(paths: Iterable[str]) -> list[str]:
    return [path.partition(":")[2] for path in paths]


def _names(paths: Iterable[str], vms: dict[str, VirtualMachine]) -> str:
    return some(sorted(vms[path].name if path in vms else "a VM that is gone" for path in paths))
