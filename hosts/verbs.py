"""Verbs that ask a host something: its inventory, at somebody's wish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from accounts.audit import audit
from hosts import inventory
from hosts.calls import HostHandler
from hosts.models import Host
from hosts.polling import poll_soon
from jobs.outcomes import Done, Fail, Outcome
from jobs.queueing import enqueue

if TYPE_CHECKING:
    from accounts.actors import Actor
    from jobs.claims import Claim
    from jobs.models import Job


class InventoryHandler(HostHandler):
    """`host.inventory`: read what a host says of itself, its VMs and its cache; record it."""

    first = "list"
    calls = frozenset({"list"})

    def step_list(self, claim: Claim) -> Outcome:
        host = Host.objects.present().filter(pk=claim.job.subject_id).first()
        if host is None:
            return Fail("The host was removed from the pool.")
        claim.note("Reading the inventory.", 10)
        with claim.sending():
            listing = inventory.refresh(host)
        if not listing.counts:
            return Done(
                {"vms": 0}, message="The list is empty or out of date; a second look decides."
            )
        count = len(listing.inventory.vms)
        return Done({"vms": count}, message=f"{count} VMs listed.")


def request_inventory(actor: Actor, host: Host) -> Job:
    """Have the host inventoried now. A job that waits for the same already is returned.

    Raises `Forbidden` without `hosts.manage`.
    """
    actor.require("hosts.manage")
    with transaction.atomic():
        poll_soon(host)
        audit(actor, "host.inventory_requested", f"host:{host.pk}", host.name)
        return enqueue(
            "host.inventory",
            f"host:{host.pk}",
            actor,
            lane=host.lane,
            unique_key=f"host.inventory:{host.pk}",
            message="Waiting for a worker.",
        )
