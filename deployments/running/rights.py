"""Who may run what: checked when a task is planned, started and continued, never kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployments.models.tasks import Step, Task
from deployments.states import StepState
from orchestrator.refusals import Forbidden, NotFound
from vms.ending import require_use
from vms.models import Template, VirtualMachine

if TYPE_CHECKING:
    from accounts.actors import Actor


def require_run(actor: Actor) -> None:
    actor.require("deployments.run")


def require_control(actor: Actor, task: Task) -> None:
    """Raise `NotFound`, `Forbidden` unless the actor may control `task`."""
    if not Task.objects.visible_to(actor).filter(pk=task.pk).exists():
        raise NotFound("There is no such task.")
    require_run(actor)


def require_force(actor: Actor) -> None:
    actor.require("deployments.force")


def require_task(actor: Actor, task: Task) -> None:
    """Raise `Forbidden` unless the actor may do what is left of `task`, with all its VMs."""
    require_control(actor, task)
    left = Step.objects.filter(task=task).exclude(state__in=StepState.finished())
    subjects = left.filter(subject__startswith="vm:").values_list("subject", flat=True).distinct()
    ids = [subject.partition(":")[2] for subject in subjects]
    for vm in VirtualMachine.objects.filter(pk__in=ids).order_by("pk"):
        try:
            require_use(actor, vm)
        except Forbidden as refusal:
            raise Forbidden(f"You may not act on {vm.name}: {refusal.message}") from None
    wanted = left.filter(kind="vm.create").values_list("action", flat=True)
    for template in Template.objects.filter(pk__in={one["template"] for one in wanted}):
        require_template(actor, template)


def require_template(actor: Actor, template: Template) -> None:
    """Raise `Forbidden` unless the actor has a live grant for `template`.

    The step takes it when it makes the VM; this is for saying so before anything runs.
    """
    granted = template.grants.live().for_user(actor.user_id).exists()
    live = Template.objects.live().filter(pk=template.pk).exists()
    if not (granted and live and actor.may_use_template(template.pk)):
        raise Forbidden(
            f"You have no grant for the template {template.name} now. Ask its owner for one.",
            code="grant_revoked",
        )
