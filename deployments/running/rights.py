"""Who may run what: checked when a task is planned, started and continued, never kept."""

from __future__ import annotations

from accounts.actors import Actor
from accounts.models import ApiToken
from deployments import access
from deployments.models import Environment
from deployments.models.tasks import Step, Task
from deployments.states import StepState
from orchestrator.refusals import Forbidden, NotFound
from vms.ending import require_use
from vms.models import Template, VirtualMachine


def require_run(actor: Actor, environment: Environment | None) -> None:
    """Raise `Forbidden` unless the actor may deploy to `environment`."""
    actor.require("deployments.run")
    access.require(actor, environment, access.DEPLOY)


def take_run(actor: Actor, environment: Environment | None) -> None:
    """As `require_run`, until the transaction ends. Call it after `actor.take`."""
    actor.require("deployments.run")
    access.take(actor, environment, access.DEPLOY)


def require_control(actor: Actor, task: Task) -> None:
    """Raise `NotFound`, `Forbidden` unless the actor may control `task`."""
    if not Task.objects.visible_to(actor).filter(pk=task.pk).exists():
        raise NotFound("There is no such task.")
    actor.require("deployments.run")
    access.require(actor, task.environment, access.CONTROL)


def require_force(actor: Actor, task: Task) -> None:
    actor.require("deployments.force")
    access.require(actor, task.environment, access.CONTROL)


def take_task(actor: Actor, task: Task) -> None:
    """As `require_task`, and rely on the environment's list until the transaction ends.

    Call it after `actor.take`, with the task's row held. The first start takes the right to deploy.
    """
    require_task(actor, task)
    access.take(actor, task.environment, access.CONTROL if task.runs else access.DEPLOY)


def why_held(task: Task) -> str:
    """Return why no further step of `task` may begin; empty when one may.

    Asked of whoever started or continued it last, before each step. Whoever asks holds the gate,
    which all who shorten the list of an environment hold, too (`deployments.granting`).
    """
    starter = Actor(user=task.started_by, token=task.started_with)
    who = starter.name or "an account that is gone"
    if not (task.started_by and task.started_by.is_active):
        why = "is deactivated"
    elif starter.token and not ApiToken.objects.live().filter(pk=starter.token.pk).exists():
        why = f"acted by the token {starter.token.name}, which was revoked or has expired"
    elif not starter.can("deployments.run"):
        why = "may no longer run deployments"
    elif not access.may(starter, task.environment, access.CONTROL):
        why = f"may no longer control tasks in {task.environment}, which is restricted"
    else:
        return ""
    return f"Held: it acts as {who}, who {why}. Somebody who may can continue it."


def require_task(actor: Actor, task: Task) -> None:
    """Raise `Forbidden` unless the actor may do what is left of `task`, with all its VMs."""
    require_control(actor, task)
    if not task.runs:
        access.require(actor, task.environment, access.DEPLOY)
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
