"""Asking for a VM."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.audit import audit
from hosts.models import Architecture
from jobs import bell
from jobs.queueing import enqueue
from orchestrator.db.locks import go_in
from orchestrator.refusals import Invalid, NotFound
from vms import access, pools
from vms.lifecycle import PLACER, announce
from vms.models import VirtualMachine
from vms.terms import MAXIMUM, checked_lease, checked_name, heaviest_role, name_taken, slug

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accounts.actors import Actor
    from hosts.models import Host
    from vms.models import Grant, Placement, Template

WAITING = "Waiting for a host."


def request_vm(
    actor: Actor,
    *,
    template: Template,
    name: str = "",
    cpus: int | None = None,
    memory_mib: int | None = None,
    disk_gib: int | None = None,
    lease_seconds: int | None = None,
    priority: int = 5,
    host: Host | None = None,
    architecture: str = "",
    host_tags: Sequence[str] = (),
    tags: Sequence[str] = (),
    start: bool | None = None,
    maximum_wait_seconds: int | None = None,
    source: Placement | None = None,
) -> VirtualMachine:
    """Ask for a VM of `template`. It is `pending` until the placer finds it a host.

    It comes only on `host`, on a host of `architecture`, on one with any of `host_tags`, where they
    are given. After `maximum_wait_seconds` in the queue (by default `QUEUE_MAXIMUM_WAIT_SECONDS`)
    it is given up. With a `source` it is a clone of that placement's VM instead, and comes where
    that one is.

    In one transaction: the rights are taken (account, token, images, template, grant), and the VM,
    its job, event and audit are written. Raises `Invalid`, `NotFound`, `Forbidden` with a code, or
    `Conflict` for a name in use.
    """
    actor.require("vms.use")
    name = checked_name(name.strip() or _free_name(template))
    if not 0 <= priority <= 9:
        raise Invalid.field("priority", "The priority is a number from 0 to 9; 9 goes first.")
    size = {
        "cpus": template.cpus if cpus is None else cpus,
        "memory_mib": template.memory_mib if memory_mib is None else memory_mib,
        "disk_gib": template.disk_gib if disk_gib is None else disk_gib,
    }
    for field, value in size.items():
        if not 1 <= value <= MAXIMUM[field]:
            raise Invalid.field(field, f"Give a number from 1 to {MAXIMUM[field]}.")
    longest = int(settings.QUEUE_MAXIMUM_WAIT_SECONDS)
    if maximum_wait_seconds is None:
        maximum_wait_seconds = longest
    elif not 1 <= maximum_wait_seconds <= longest:
        raise Invalid.field("maximum_wait_seconds", f"Give 1 to {longest} seconds.")
    if architecture and architecture not in Architecture.values:
        known = " or ".join(Architecture.values)
        raise Invalid.field("architecture", f"Say {known}.")
    if host is not None and not type(host).objects.visible_to(actor).filter(pk=host.pk).exists():
        raise NotFound("There is no such host.")
    with transaction.atomic():
        go_in()
        actor.take()
        actor.require("vms.use")
        access.check_room_of_token(actor)
        grant, _images = access.take_template(actor, template)
        vm = VirtualMachine(
            name=name,
            template=template,
            grant=grant,
            token=actor.token,
            requested_by=actor.user,
            **size,
            start=template.start if start is None else start,
            lease_seconds=checked_lease(template, grant, lease_seconds),
            priority=priority,
            share=(grant and grant.role) or heaviest_role(actor.user),
            waits_until=timezone.now() + timedelta(seconds=maximum_wait_seconds),
            clone_of=source.host_name if source else template.clone_of,
            configuration=source.vm.configuration if source else {},  # hosts clone it along
            wanted_host=source.host if source else host,
            wanted_architecture=architecture,
            wanted_tags=sorted({tag.casefold() for tag in host_tags}),
            tags=list(tags),
            reason=WAITING,
        )
        vm.desired_state = "running" if vm.start else "stopped"
        if not source and (claimed := _claim(actor, vm)):
            return claimed
        vm.create_job = enqueue("vm.create", vm.subject, actor, message=WAITING, parked=True)
        try:
            vm.save(force_insert=True)
        except IntegrityError:  # no savepoint: the refusal rolls back all of it
            raise name_taken(name) from None
        audit(
            actor,
            "vm.requested",
            vm.subject,
            vm.name,
            data={"template": template.name, **_relied_on(grant, template), **size},
        )
        announce(vm)
        bell.ring_tick(PLACER)
    return vm


def _claim(actor: Actor, wanted: VirtualMachine) -> VirtualMachine | None:
    """Return a VM of the template's warm pool instead of `wanted`, if one is ready."""
    pool = pools.pool_for(wanted)
    if pool is None:
        return None
    try:
        with transaction.atomic():
            vm = pools.claim(actor, pool, wanted)
            if vm is None:
                return None
    except IntegrityError:
        raise name_taken(wanted.name) from None
    relied = _relied_on(vm.grant, wanted.template)
    data = {"template": wanted.template.name, **relied, "ready": True}
    audit(actor, "vm.requested", vm.subject, vm.name, data=data)
    announce(vm)
    return vm


def _relied_on(grant: Grant | None, template: Template) -> dict[str, Any]:
    """Return for the audit trail by what the asker may have the VM."""
    if image := template.of_image:
        return {
            "image": image.name,
            "required_roles": image.required_roles,
            "required_claims": image.required_claims,
        }
    return {"grant": str(grant.pk) if grant else None}


def _free_name(template: Template) -> str:
    return f"{slug(template.name)}-{secrets.token_hex(4)}"
