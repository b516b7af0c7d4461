"""Removing a host from the pool. Its row stays, for history; its credentials do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from accounts.audit import audit
from events.publishing import publish
from hosts import lifecycle
from hosts.models import Host, HostHold, HostStatus, HostVM
from jobs.models import Job
from jobs.queueing import record_done, request_cancel
from orchestrator.refusals import NotFound

if TYPE_CHECKING:
    from accounts.actors import Actor


def remove(actor: Actor, host: Host, *, forget_vms: bool) -> Job:
    """Remove the host; with `forget_vms` our VMs on it are forgotten, and stay as they are there.

    Raises `Forbidden`, `NotFound` when it was removed already, and the `Conflict` of a room above
    that still needs it.
    """
    actor.require("hosts.manage")
    with transaction.atomic():
        present = Host.objects.select_for_update(no_key=True).present().filter(pk=host.pk)
        if not present.values_list("pk", flat=True).first():
            raise NotFound("This host was removed from the pool already.")
        # The status before VMs and Placements, as a list that arrives now does.
        list(HostStatus.objects.select_for_update().filter(pk=host.pk).values_list("pk"))
        for entry in lifecycle.before_removal:
            entry(host, forget_vms, actor)
        HostHold.objects.filter(host=host, ended_at=None).update(ended_at=Now())
        HostVM.objects.filter(host=host).delete()
        HostStatus.objects.filter(pk=host.pk).update(poll_claim=None, poll_until=None)
        for job in Job.objects.open().about(f"host:{host.pk}"):
            request_cancel(job, reason="The host was removed from the pool.")
        Host.objects.filter(pk=host.pk).update(
            removed_at=Now(), username="", password="", api_key=""
        )
        host.refresh_from_db()
        data = {"url": host.url, "forget_vms": forget_vms}
        audit(actor, "host.removed", f"host:{host.pk}", host.name, data=data)
        publish("host.removed", f"host:{host.pk}", {"name": host.name}, permission="hosts.view")
        return record_done(
            "host.remove",
            f"host:{host.pk}",
            actor,
            result={"forget_vms": forget_vms},
            message=f"{host.name} was removed from the pool.",
        )
