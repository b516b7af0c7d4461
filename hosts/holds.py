"""Holds: reasons not to use a host. Ending one never ends another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from accounts.audit import audit
from events.publishing import publish
from hosts import lifecycle
from hosts.models import Host, HostHold
from hosts.polling import poll_soon
from jobs.queueing import record_done
from orchestrator.db.clock import database_now
from orchestrator.refusals import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from accounts.actors import Actor
    from jobs.models import Job

REASON_LENGTH = 300
# Kinds that a person may set and end: how the two verbs are called, and what the hold is like.
VERBS = {
    HostHold.Kind.CORDON: ("host.cordon", "host.uncordon", "cordoned"),
    HostHold.Kind.DISABLE: ("host.disable", "host.enable", "disabled"),
}


def hold(actor: Actor, host: Host, kind: str, reason: str, until: datetime | None = None) -> Job:
    """Hold the host: `cordon` (no new VMs) or `disable` (also not polled), seen by everybody.

    Holding again replaces reason and end. Raises `Forbidden`, `NotFound` for a removed host, and
    `Invalid` for another kind, no reason, or an end that has passed.
    """
    actor.require("hosts.manage")
    began, _, adjective = _verbs(kind)
    reason = reason.strip()
    if not reason:
        raise Invalid.field("reason", "Say why, so that everybody knows; enter a reason.")
    if len(reason) > REASON_LENGTH:
        raise Invalid.field("reason", f"Enter at most {REASON_LENGTH} characters.")
    with transaction.atomic():
        _lock(host)
        if until is not None and until <= database_now():
            raise Invalid.field("until", "This moment has passed; choose one in the future.")
        _end_expired(host, kind)
        held = HostHold.objects.filter(host=host, kind=kind, ended_at=None)
        if not held.update(reason=reason, until=until, by=actor.user):
            HostHold.objects.create(host=host, kind=kind, reason=reason, until=until, by=actor.user)
        data = {"reason": reason, "until": until.isoformat() if until else None}
        return _finish(actor, host, began, data, f"{host.name} is {adjective}: {reason}")


def release(actor: Actor, host: Host, kind: str) -> Job:
    """End the hold of this kind. Raises `Conflict` when there is none, and as `hold`."""
    actor.require("hosts.manage")
    _, ended, adjective = _verbs(kind)
    with transaction.atomic():
        _lock(host)
        _end_expired(host, kind)
        held = HostHold.objects.filter(host=host, kind=kind, ended_at=None)
        reason = held.values_list("reason", flat=True).first()
        if not held.update(ended_at=Now()):
            raise Conflict(f"{host.name} is not {adjective}: there is nothing to end.")
        if kind == HostHold.Kind.DISABLE:
            poll_soon(host)  # what is known of it is as old as the hold
        lifecycle.tell_available(host)
        return _finish(actor, host, ended, {"reason": reason}, f"{host.name} is not {adjective}.")


def _verbs(kind: str) -> tuple[str, str, str]:
    if kind not in VERBS:
        raise Invalid.field("kind", "Choose one of: cordon, disable.")
    return VERBS[HostHold.Kind(kind)]


def _lock(host: Host) -> None:
    """Let one change of the host's holds in at a time, and only while it is present."""
    present = Host.objects.select_for_update(no_key=True).present().filter(pk=host.pk)
    if not present.values_list("pk", flat=True).first():
        raise NotFound("This host was removed from the pool.")


def _end_expired(host: Host, kind: str) -> None:
    """Close a hold whose time has run out, so that history tells it from a new one."""
    over = HostHold.objects.filter(Q(until__lte=Now()), host=host, kind=kind, ended_at=None)
    for old in over:
        HostHold.objects.filter(pk=old.pk).update(ended_at=old.until)


def _finish(actor: Actor, host: Host, verb: str, data: dict[str, str | None], message: str) -> Job:
    audit(actor, verb, f"host:{host.pk}", host.name, data=data)
    publish("host.changed", f"host:{host.pk}", {"name": host.name}, permission="hosts.view")
    return record_done(verb, f"host:{host.pk}", actor, result=dict(data), message=message[:300])
