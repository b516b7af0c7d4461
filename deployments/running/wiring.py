"""What running registers in the rooms below: job kinds, actions, names of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from accounts import revocation
from deployments import granting
from deployments.models.tasks import Task
from deployments.running import actions, control, handlers, revocations
from deployments.running.actions import (
    archives,
    books,
    checks,
    files,
    guests,
    machines,
    people,
    snapshots,
)
from jobs import handlers as jobs
from orchestrator.web import names
from vms.verbs import executing, writing

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
    "vm.upload": files.Upload(),
    "vm.remove_file": guests.Remove(),
    "vm.unpack": archives.Unpack(),
    "vm.remove_unpacked": archives.RemoveUnpacked(),
    "config.write": files.WriteConfiguration(),
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
    jobs.register_at_once(granting.VERB)
    for kind, action in ACTIONS.items():
        actions.register(kind, action)
    executing.register_source(guests.SOURCE, guests.command_of)
    writing.register_pieces(guests.SOURCE, files.piece_of)
    names.register("task", _titles)
    revocation.register(revocations.preview, revocations.apply)


def _titles(ids: set[UUID]) -> Mapping[UUID, str]:
    return dict(Task.objects.filter(pk__in=ids).values_list("pk", "title"))
