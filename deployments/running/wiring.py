"""What running registers in the rooms below: job kinds, actions, names of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from deployments.models.tasks import Task
from deployments.running import actions, control, handlers
from deployments.running.actions import books, people
from jobs import handlers as jobs
from orchestrator.web import names

if TYPE_CHECKING:
    from collections.abc import Mapping


def register() -> None:
    """Register once, in `AppConfig.ready()`."""
    jobs.register("task.run", handlers.TaskHandler())
    jobs.register("task.step", handlers.StepHandler())
    jobs.register("task.safe_step", handlers.SafeStepHandler())
    jobs.register_at_once(control.VERB)
    actions.register("wait", people.Wait())
    actions.register("manual", people.Manual())
    actions.register("pause", people.Manual())
    actions.register("approval", people.Approval())
    actions.register("register", books.Register())
    names.register("task", _titles)


def _titles(ids: set[UUID]) -> Mapping[UUID, str]:
    return dict(Task.objects.filter(pk__in=ids).values_list("pk", "title"))
