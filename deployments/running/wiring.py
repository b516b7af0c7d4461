"""What running registers in the rooms below: job kinds, actions, names of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from deployments.models.tasks import Task
from deployments.running import actions, control, handlers
from deployments.running.actions import books, checks, guests, machines, people, snapshots
from jobs import handlers as jobs
from orchestrator.web import names
from vms.verbs import executing

if TYPE_CHECKING:
    from collections.abc import Mapping

ACTIONS: dict[str, actions.Action] = {
    "vm.create": machines.Create(),
    "vm.wait": machines.WaitForVM(),
    "vm.start": machines.START,
    "vm.stop": machines.STOP,
    "vm.suspend": machines.SUSPEND,
    "vm.delete": machines.Delete(),
    "vm.reconfigure": machines.Reconfigure(),
    "vm.snapshot": snapshots.Snapshot(),
    "vm.execute": guests.Execute(),
    "vm.service": guests.Service(),
    "vm.upload": guests.Upload(),
    "vm.remove_file": guests.Remove(),
    "config.write": guests.WriteConfiguration(),
    "config.remove": guests.Remove(),
    "check": checks.Check(),
    "wait": people.Wait(),
    "manual": people.Manual(),
    "pause": people.Manual(),
    "approval": people.Approval(),
    "register": books.Register(),
}


def register() -> None:
    """Register once, in `AppConfig.ready()`."""
    jobs.register("task.run", handlers.TaskHandler())
    jobs.register("task.step", handlers.StepHandler())
    jobs.register("task.safe_step", handlers.SafeStepHandler())
    jobs.register_at_once(control.VERB)
    for kind, action in ACTIONS.items():
        actions.register(kind, action)
    executing.register_source(guests.SOURCE, guests.command_of)
    names.register("task", _titles)


def _titles(ids: set[UUID]) -> Mapping[UUID, str]:
    return dict(Task.objects.filter(pk__in=ids).values_list("pk", "title"))
