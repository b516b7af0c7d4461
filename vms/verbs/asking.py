"""What every verb does before its job exists: rights, the VM's state, audit."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from django.db import transaction

from accounts.audit import audit
from jobs.models import Job
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict, Forbidden
from vms import access
from vms.ending import require_use
from vms.lifecycle import move
from vms.models import VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from accounts.actors import Actor


def ask_to_move(
    actor: Actor,
    vm: VirtualMachine,
    verb: str,
    to: State,
    expect: Collection[State],
    desired: str,
    *,
    grant: bool = False,
    payload: dict[str, Any] | None = None,
) -> Job:
    """Move `vm` on its way to another state and enqueue the job that brings it there.

    Raises `Forbidden`, with `grant` also when the grant does not hold any more, and `Conflict` in
    a state other than `expect`. Only a stop may come while work on the VM is under way: that work
    then ends by itself.
    """
    require_use(actor, vm)
    with transaction.atomic():
        actor.take()
        if grant:
            require_grant(vm)
        before = vm.state
        if not move(vm, to, expect=expect, problem="", desired_state=desired):
            _refuse_state(vm, verb, expect)
        if to != State.STOPPING:
            _refuse_while_working(vm)
        data = {"before": {"state": before}, "after": {"state": to}}
        audit(actor, f"vm.{verb}_requested", vm.subject, vm.name, data=data)
        return enqueue(
            f"vm.{verb}",
            vm.subject,
            actor,
            lane=vm.lane,
            payload={"before": before, **(payload or {})},
        )


def ask_in_place(
    actor: Actor,
    vm: VirtualMachine,
    verb: str,
    states: Collection[State],
    *,
    grant: bool = False,
    alone: bool = True,
    payload: dict[str, Any] | None = None,
    told: dict[str, Any] | None = None,
) -> Job:
    """Enqueue work on `vm` that leaves its state alone.

    `told` is what the audit says beside the verb. Raises as `ask_to_move`, and for work that must
    be `alone` `Conflict` while other such work is under way. The VM's row stays locked until the
    transaction ends, so that no move comes between.
    """
    require_use(actor, vm)
    with transaction.atomic():
        actor.take()
        if grant:
            require_grant(vm)
        require_at_rest(vm, verb, states, alone=alone)
        data = told or {"state": vm.state}
        audit(actor, f"vm.{verb}_requested", vm.subject, vm.name, data=data)
        return enqueue(
            f"vm.{verb}",
            vm.subject,
            actor,
            lane=vm.lane,
            payload=payload,
            unique_key=work_key(vm) if alone else None,
        )


def require_at_rest(
    vm: VirtualMachine, verb: str, states: Collection[State], *, alone: bool = True
) -> None:
    """Keep `vm` in one of `states` until the transaction ends; raises `Conflict`."""
    locked = VirtualMachine.objects.select_for_update(no_key=True).filter(pk=vm.pk)
    if not locked.filter(state__in=states).values_list("pk").first():
        _refuse_state(vm, verb, states)
    if alone:
        _refuse_while_working(vm)


def require_grant(vm: VirtualMachine) -> None:
    """Raise `Forbidden` when what allowed `vm` does not hold any more."""
    if refusal := access.why_not_any_more(vm):
        raise Forbidden(refusal, code="grant_revoked")


def _refuse_state(vm: VirtualMachine, verb: str, wanted: Collection[State]) -> None:
    vm.refresh_from_db()
    states = " or ".join(sorted(str(state) for state in wanted))
    words = verb.replace("_", " ")
    raise Conflict(f"This VM is {vm.state}; {words} needs it to be {states}.")


def _refuse_while_working(vm: VirtualMachine) -> None:
    if found := Job.objects.open().filter(unique_key=work_key(vm)).first():
        raise Conflict(f"{found.kind} is under way on this VM. Wait for it to end, or cancel it.")


def work_key(vm: VirtualMachine) -> str:
    """Return the unique key of jobs that work on `vm` alone."""
    return f"vm.work:{vm.pk}"
