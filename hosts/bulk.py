"""What can be done to many hosts at once (`jobs.batches`)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.utils.dateparse import parse_datetime

from hosts import holds
from hosts.api.hosts import HostFilter
from hosts.api.serializers import HoldInput
from hosts.forms import HoldForm, HostFilters
from hosts.models import Host, HostHold
from hosts.verbs import request_inventory
from jobs import batches
from jobs.batches import BulkVerb, Noun, matching
from orchestrator.refusals import Forbidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from jobs.models import Job


def rows(actor: Actor) -> QuerySet[Host]:
    """Return the hosts that the actor may see, without their credentials."""
    return Host.objects.visible_to(actor).for_page().defer("password", "api_key")


HOSTS = Noun(
    "host",
    rows,
    lambda actor, query: matching(HostFilters(query, rows(actor))),
    lambda actor, query: matching(HostFilter(query, rows(actor))),
)


def host_verb(
    label: str, act: Callable[..., Job], *, held: HostHold.Kind | None = None, **more: Any
) -> BulkVerb:
    """Return a verb on hosts; one that ends a hold names which one must be there."""
    return BulkVerb(label, HOSTS, partial(_why_not, held), act, **more)


def _why_not(held: HostHold.Kind | None, actor: Actor, host: Host) -> str:
    try:
        actor.require("hosts.manage")
    except Forbidden as refusal:
        return refusal.message
    kinds = {hold.kind for hold in host.live_holds}  # type: ignore[attr-defined]
    return f"It is not {holds.VERBS[held][2]}." if held and held not in kinds else ""


def _hold(kind: HostHold.Kind, actor: Actor, host: Host, *, reason: str, until: str = "") -> Job:
    return holds.hold(actor, host, kind, reason, parse_datetime(until) if until else None)


def _release(kind: HostHold.Kind, actor: Actor, host: Host) -> Job:
    return holds.release(actor, host, kind)


def register() -> None:
    """Offer the verbs on hosts for many at once."""
    for kind in holds.SIMPLE:
        began, ended, _ = holds.VERBS[kind]
        label = began.partition(".")[2].capitalize()
        batches.register(
            began,
            host_verb(label, partial(_hold, kind), form=HoldForm, options=HoldInput),
        )
        label = ended.partition(".")[2].capitalize()
        batches.register(ended, host_verb(label, partial(_release, kind), held=kind))
    batches.register("host.inventory", host_verb("Read the inventory", request_inventory))
