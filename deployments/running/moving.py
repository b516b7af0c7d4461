"""The one place that moves tasks and steps, and what every writer of a task holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployments.models.tasks import Step, Task, TaskNote
from deployments.states import STEP_MOVES, TASK_MOVES
from events.publishing import publish

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from django.db.models import QuerySet

_MOVES: dict[type, Mapping[str, frozenset[Any]]] = {Task: TASK_MOVES, Step: STEP_MOVES}


def locked(task_id: UUID | str) -> Task:
    """Return the task, its row held until the transaction ends.

    Everything that moves it, its blocks or its steps holds this row, and takes it before any other
    (docs/decisions/0004).
    """
    return Task.objects.select_for_update(of=("self",)).get(pk=task_id)


def move(rows: QuerySet[Any], to: str, *, expect: Iterable[str], **values: Any) -> int:
    """Move those of `rows` (tasks or steps) that are in `expect` to `to`; return how many.

    One conditional UPDATE. A move that the table of states does not have raises `ValueError`.
    """
    expected = list(expect)
    moves = _MOVES[rows.model]
    if wrong := [state for state in expected if to not in moves[state]]:
        noun = rows.model._meta.verbose_name
        raise ValueError(f"A {noun} never moves from {', '.join(wrong)} to {to}.")
    return rows.filter(state__in=expected).update(state=to, **values)


def move_task(task: Task, to: str, *, expect: Iterable[str], **values: Any) -> bool:
    """Move `task` as `move` does, and bring the instance up to date."""
    moved = bool(move(Task.objects.filter(pk=task.pk), to, expect=expect, **values))
    if moved:
        task.refresh_from_db()
    return moved


def note(task: Task, verb: str, who: str, text: str = "") -> None:
    """Write a line of the task's report."""
    TaskNote.objects.create(task=task, verb=verb, who=who, text=text[:500])


def announce(task: Task) -> None:
    """Publish that the task, or something of its plan, changed."""
    publish(
        "task.changed",
        task.subject,
        {"title": task.title, "state": task.state, "kind": task.kind},
        permission="deployments.view",
        owner_id=task.owner_id,
    )
