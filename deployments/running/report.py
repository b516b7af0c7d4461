"""What a task did, for people and for files: who, when, how long, what changed."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from django.db.models import Count

from deployments.models.tasks import Step, Task
from deployments.states import StepState, TaskState

if TYPE_CHECKING:
    from datetime import datetime

COLUMNS = (
    *("number", "path", "block", "text", "kind", "subject", "state", "attempts", "failures"),
    *("started_at", "ended_at", "seconds", "reason"),
)


def outcome(task: Task) -> str:
    """Return how reports count a task; a rollback never counts as a successful deployment."""
    if task.kind == Task.Kind.ROLLBACK:
        return "rollback"
    if getattr(task, "rolled_back_by", None):
        return "rolled back"
    if task.state in (TaskState.EXECUTED, TaskState.DONE):
        return "retried" if task.runs > 1 else "successful"
    return "aborted" if task.state == TaskState.CANCELLED else "open"


def make(task: Task) -> dict[str, Any]:
    """Return the whole report of a task as JSON."""
    planned = task.planned
    return {
        "id": str(task.pk),
        "title": task.title,
        "kind": task.kind,
        "state": task.state,
        "outcome": outcome(task),
        "environment": task.environment.name if task.environment else "",
        "package": task.package.title if task.package else "",
        "owner": task.owner.username if task.owner else "",
        "created_at": _text(task.created_at),
        "started_at": _text(task.started_at),
        "ended_at": _text(task.ended_at),
        "finished_at": _text(task.finished_at),
        "seconds": seconds(task.started_at, task.ended_at),
        "runs": task.runs,
        "orchestrators": planned.get("orchestrators", []),
        "changes": [
            {name: delta[name] for name in ("operation", "deployed", "container_name")}
            for delta in planned.get("deltas", [])
        ],
        "steps_by_state": steps_by_state(task),
        "timeline": [
            {"at": _text(note.at), "verb": note.verb, "who": note.who, "text": note.text}
            for note in task.notes.all()
        ],
        "steps": [_row(step) for step in _steps(task)],
    }


def steps_by_state(task: Task) -> dict[str, int]:
    rows = Step.objects.filter(task=task).order_by().values_list("state")
    return dict(rows.annotate(Count("pk")))


def as_csv(task: Task) -> str:
    """Return the steps of a task as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for step in _steps(task):
        # A spreadsheet must not take a text for a formula.
        writer.writerow({name: _harmless(value) for name, value in _row(step).items()})
    return text.getvalue()


def _steps(task: Task) -> Any:
    return Step.objects.filter(task=task).select_related("block").order_by("number").iterator()


def _row(step: Step) -> dict[str, Any]:
    return {
        "number": step.number,
        "path": step.path,
        "block": step.block.label,
        "text": step.text,
        "kind": step.kind,
        "subject": step.subject,
        "state": step.state,
        "attempts": step.attempt,
        "failures": step.failures,
        "started_at": _text(step.started_at),
        "ended_at": _text(step.ended_at),
        "seconds": seconds(step.started_at, step.ended_at),
        "reason": step.reason,
    }


def seconds(began: datetime | None, ended: datetime | None) -> float | None:
    return round((ended - began).total_seconds(), 3) if began and ended else None


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def current_steps(task: Task, limit: int = 20) -> list[Step]:
    """Return the steps that are under way or wait, else those that need a person."""
    rows = Step.objects.filter(task=task).select_related("block").order_by("number")
    active = list(rows.filter(state=StepState.EXECUTING)[:limit])
    active += list(rows.filter(state=StepState.QUEUED)[: max(0, limit - len(active))])
    if active:
        return active
    return list(rows.filter(state__in=[StepState.FAILED, StepState.PAUSED])[:limit])
