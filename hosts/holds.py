"""Holds: reasons not to use a host. Ending one never ends another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from accounts.actors import SYSTEM
from accounts.audit import audit, changed
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
# How the two verbs of each kind are called, and what the hold is like.
VERBS = {
    HostHold.Kind.CORDON: ("host.cordon", "host.uncordon", "cordoned"),
    HostHold.Kind.DISABLE: ("host.disable", "host.enable", "disabled"),
    HostHold.Kind.MAINTENANCE: ("host.maintain", "host.end_maintenance", "in maintenance"),
    # Set by rooms above: to empty the host of VMs, and because it fails to make them.
    HostHold.Kind.DRAIN: ("host.drain", "host.undrain", "draining"),
    HostHold.Kind.QUARANTINE: ("host.quarantine", "host.end_quarantine", "in quarantine"),
}
SIMPLE = (HostHold.Kind.CORDON, HostHold.Kind.DISABLE)  # nothing but a reason and an end


def hold(actor: Actor, host: Host, kind: str, reason: str, until: datetime | None = None) -> Job:
    """Hold the host: no new VMs, and with `disable` no polling either. Everybody sees why.

    Holding again replaces reason and end. Raises `Forbidden`, `NotFound` for a removed host, and
    `Invalid` for another kind, no reason, or an end that has passed.
    """
    actor.require("hosts.manage")
    began, _, adjective = _verbs(kind)
    reason = _checked_reason(reason)
    with transaction.atomic():
        _lock(host)
        if until is not None and until <= database_now():
            raise Invalid.field("until", "This moment has passed; choose one in the future.")
        _end_expired(host, kind)
        before = _told(host)
        held = HostHold.objects.filter(host=host, kind=kind, ended_at=None)
        if not held.update(reason=reason, until=until, by=actor.user):
            HostHold.objects.create(host=host, kind=kind, reason=reason, until=until, by=actor.user)
        data = {"reason": reason, "until": until.isoformat() if until else None}
        return _finish(actor, host, began, data, f"{host.name} is {adjective}: {reason}", before)


def plan_maintenance(
    actor: Actor,
    host: Host,
    reason: str,
    until: datetime,
    starts_at: datetime | None = None,
) -> Job:
    """Hold the host from `starts_at` (at once by default) to `until`; both happen by themselves.

    VMs that are there run on. Any number of windows may be planned. Raises as `hold`.
    """
    actor.require("hosts.manage")
    reason = _checked_reason(reason)
    with transaction.atomic():
        _lock(host)
        now = database_now()
        if until <= max(starts_at or now, now):
            raise Invalid.field("until", "A window ends after its beginning, in the future.")
        if starts_at is not None and starts_at <= now:
            starts_at = None
        before = _told(host)
        HostHold.objects.create(
            host=host,
            kind=HostHold.Kind.MAINTENANCE,
            reason=reason,
            by=actor.user,
            starts_at=starts_at,
            begun_at=None if starts_at else now,
            until=until,
        )
        data = {
            "reason": reason,
            "starts_at": starts_at.isoformat() if starts_at else None,
            "until": until.isoformat(),
        }
        began, _, adjective = _verbs("maintenance")
        when = "will be" if starts_at else "is"
        told = f"{host.name} {when} {adjective}: {reason}"
        return _finish(actor, host, began, data, told, before)


def end(actor: Actor, found: HostHold) -> Job:
    """End one hold, of any kind, or take a planned window back. Raises as `release`."""
    actor.require("hosts.manage")
    _, ended, adjective = _verbs(found.kind)
    host = found.host
    with transaction.atomic():
        _lock(host)
        before = _told(host)
        if not HostHold.objects.filter(pk=found.pk, ended_at=None).update(ended_at=Now()):
            raise Conflict("This hold has ended already.")
        _make_usable(host, found.kind)
        data: dict[str, str | None] = {"reason": found.reason, "hold": str(found.pk)}
        return _finish(actor, host, ended, data, f"{host.name} is not {adjective}.", before)


def turn() -> int:
    """Tell of windows that have begun and of holds whose time is over; return how many.

    They are in force, or not, without this: it writes down that they are. Safe to run twice.
    """
    turned = 0
    begun = HostHold.objects.live().filter(begun_at=None, starts_at__isnull=False)
    over = HostHold.objects.filter(until__lte=Now(), ended_at=None)
    for one in [*begun.select_related("host"), *over.select_related("host")]:
        with transaction.atomic():
            rows = HostHold.objects.filter(pk=one.pk)
            began = rows.filter(begun_at=None, starts_at__isnull=False, until__gt=Now()).update(
                begun_at=Now()
            )
            if not began and not rows.filter(until__lte=Now(), ended_at=None).update(
                ended_at=one.until
            ):
                continue
            verb = _verbs(one.kind)[0 if began else 1]
            audit(SYSTEM, verb, f"host:{one.host_id}", one.host.name, data={"reason": one.reason})
            _tell(one.host)
            if not began:
                _make_usable(one.host, one.kind)
            turned += 1
    return turned


def release(actor: Actor, host: Host, kind: str) -> Job:
    """End the hold of this kind. Raises `Conflict` when there is none, and as `hold`."""
    actor.require("hosts.manage")
    _, ended, adjective = _verbs(kind)
    with transaction.atomic():
        _lock(host)
        _end_expired(host, kind)
        before = _told(host)
        held = HostHold.objects.filter(host=host, kind=kind, ended_at=None)
        reason = held.values_list("reason", flat=True).first()
        if not held.update(ended_at=Now()):
            raise Conflict(f"{host.name} is not {adjective}: there is nothing to end.")
        _make_usable(host, kind)
        told = f"{host.name} is not {adjective}."
        return _finish(actor, host, ended, {"reason": reason}, told, before)


def _verbs(kind: str) -> tuple[str, str, str]:
    if kind not in VERBS:
        raise Invalid.field("kind", f"Choose one of: {', '.join(VERBS)}.")
    return VERBS[HostHold.Kind(kind)]


def _checked_reason(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise Invalid.field("reason", "Say why, so that everybody knows; enter a reason.")
    if len(reason) > REASON_LENGTH:
        raise Invalid.field("reason", f"Enter at most {REASON_LENGTH} characters.")
    return reason


def _make_usable(host: Host, kind: str) -> None:
    """Do what the end of a hold brings with it."""
    if kind == HostHold.Kind.DISABLE:
        poll_soon(host)  # what is known of it is as old as the hold
    lifecycle.tell_available(host)


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


def _told(host: Host) -> dict[str, Any]:
    """Return the holds of `host` that have not ended, as the audit trail has them."""
    live = HostHold.objects.filter(host=host, ended_at=None).order_by("pk")
    return {"holds": list(live.values("kind", "reason", "starts_at", "until"))}


def _finish(
    actor: Actor,
    host: Host,
    verb: str,
    data: dict[str, str | None],
    message: str,
    before: dict[str, Any],
) -> Job:
    change = changed(before, _told(host))
    audit(actor, verb, f"host:{host.pk}", host.name, data=change | data)
    _tell(host)
    return record_done(verb, f"host:{host.pk}", actor, result=dict(data), message=message[:300])


def _tell(host: Host) -> None:
    publish("host.changed", f"host:{host.pk}", {"name": host.name}, permission="hosts.view")
