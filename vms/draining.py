"""Draining a host: no new VMs come, and those there leave. Nothing moves a VM to another host."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Coalesce, Now

from accounts.actors import SYSTEM
from accounts.audit import audit
from events.publishing import publish
from hosts import holds
from hosts.models import Host, HostHold
from orchestrator.db.clock import database_now
from orchestrator.refusals import Conflict, Invalid
from vms import ending, verbs
from vms.models import Drain, Placement, VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from datetime import datetime

    from accounts.actors import Actor
    from jobs.models import Job
    from vms.models import VirtualMachineQuerySet

log = structlog.get_logger(__name__)


def drain(
    actor: Actor,
    host: Host,
    *,
    reason: str,
    policy: str = Drain.Policy.WAIT,
    deadline: datetime | None = None,
) -> Job:
    """Hold `host` until it is empty. Draining it again replaces reason, policy and deadline.

    `policy` says what becomes of its VMs at the `deadline`, or at once without one: `wait` leaves
    them to their leases, `stop` and `delete` do so. The hold stays when all are gone, until it is
    ended: that also undoes a drain that has not acted yet. Raises `Forbidden`, `NotFound`,
    `Invalid`.
    """
    actor.require("hosts.manage")
    if policy not in Drain.Policy.values:
        raise Invalid.field("policy", f"Choose one of: {', '.join(Drain.Policy.values)}.")
    if deadline is not None and deadline <= database_now():
        raise Invalid.field("deadline", "This moment has passed; choose one in the future.")
    if policy != Drain.Policy.WAIT:
        actor.require("vms.manage_all")
    with transaction.atomic():
        job = holds.hold(actor, host, HostHold.Kind.DRAIN, reason)
        held = HostHold.objects.get(host=host, kind=HostHold.Kind.DRAIN, ended_at=None)
        Drain.objects.update_or_create(
            hold=held,
            defaults={
                "policy": policy,
                "deadline": deadline,
                "acted_at": None,
                "drained_at": None,
                "vms_at_start": left_on(host).count(),
            },
        )
    return job


def undrain(actor: Actor, host: Host) -> Job:
    """End the drain of `host`. What it has begun to stop or delete goes on. Raises `Conflict`."""
    return holds.release(actor, host, HostHold.Kind.DRAIN)


def left_on(host: Host) -> VirtualMachineQuerySet:
    """Return our VMs that are still on `host`, or may be."""
    open_ones = Placement.objects.open().filter(host=host)
    return VirtualMachine.objects.all().filter(pk__in=open_ones.values("vm"))


def watch() -> None:
    """Act on drains whose time has come, and tell of hosts that are empty. Safe to run twice."""
    for one in Drain.objects.filter(
        hold__in=HostHold.objects.live(), drained_at=None
    ).select_related("hold__host"):
        try:
            _act(one)
            _tell_when_empty(one)
        except Exception:  # the next round tries again; the other hosts must not wait for it
            log.exception("drain.failed", drain=str(one.pk))


def _act(one: Drain) -> None:
    due = Drain.objects.filter(Q(deadline=None) | Q(deadline__lte=Now()), pk=one.pk)
    # Level-triggered: a VM that was still being made at the deadline is reached by a later round.
    if not due.update(acted_at=Coalesce("acted_at", Now())) or one.policy == Drain.Policy.WAIT:
        return
    with transaction.atomic():
        for vm in left_on(one.hold.host).open().select_related("template", "create_job", "host"):
            with suppress(Conflict):  # it ends by itself just now, or has nothing to stop
                if one.policy == Drain.Policy.DELETE:
                    ending.end(vm, reason=f"{one.hold.host.name} is being drained.")
                else:
                    verbs.stop(SYSTEM, vm)


def _tell_when_empty(one: Drain) -> None:
    host = one.hold.host
    left = left_on(host)
    if one.policy == Drain.Policy.STOP:
        left = left.exclude(state__in=[State.STOPPED, State.SUSPENDED])
    if left.exists():
        return
    with transaction.atomic():
        if Drain.objects.filter(pk=one.pk, drained_at=None).update(drained_at=Now()):
            subject = f"host:{host.pk}"
            audit(SYSTEM, "host.drained", subject, host.name, data={"reason": one.hold.reason})
            publish("host.drained", subject, {"name": host.name}, permission="hosts.view")
