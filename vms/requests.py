"""Asking for a VM."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from accounts.audit import audit
from jobs import bell
from jobs.queueing import enqueue
from orchestrator.refusals import Conflict, Invalid, NotFound
from vms import access
from vms.lifecycle import PLACER, announce
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accounts.actors import Actor
    from hosts.models import Host
    from vms.models import Grant, Placement, Template

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
WAITING = "Waiting for a host."
MAXIMUM = {"cpus": 512, "memory_mib": 16 * 1024 * 1024, "disk_gib": 1024 * 1024}


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
    tags: Sequence[str] = (),
    start: bool | None = None,
    source: Placement | None = None,
) -> VirtualMachine:
    """Ask for a VM of `template`. It is `pending` until the placer finds it a host.

    With a `source` it is a clone of that placement's VM instead, and comes where that one is.

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
    if host is not None and not type(host).objects.visible_to(actor).filter(pk=host.pk).exists():
        raise NotFound("There is no such host.")
    with transaction.atomic():
        actor.take()
        actor.require("vms.use")
        grant, _images = access.take_template(actor, template)
        vm = VirtualMachine(
            name=name,
            template=template,
            grant=grant,
            token=actor.token,
            requested_by=actor.user,
            **size,
            start=template.start if start is None else start,
            lease_seconds=_lease_seconds(template, grant, lease_seconds),
            priority=priority,
            clone_of=source.host_name if source else template.clone_of,
            wanted_host=source.host if source else host,
            tags=list(tags),
            reason=WAITING,
        )
        vm.desired_state = "running" if vm.start else "stopped"
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
            data={"template": template.name, "grant": str(grant.pk), **size},
        )
        announce(vm)
        bell.ring_tick(PLACER)
    return vm


def checked_name(name: str) -> str:
    """Return the name without spaces around it; raises `Invalid`."""
    name = name.strip()
    if not NAME.fullmatch(name):
        raise Invalid.field(
            "name",
            "Use 1 to 63 letters, digits, dots, dashes or underscores, "
            "beginning and ending with a letter or digit.",
        )
    return name


def name_taken(name: str) -> Conflict:
    """Return the refusal of a name that another VM has."""
    return Conflict(
        f"A VM named {name} exists. Choose another name, or delete that one first.",
        code="name_taken",
        errors={"name": ["A VM of this name exists."]},
    )


def _lease_seconds(template: Template, grant: Grant, wanted: int | None) -> int:
    longest = maximum_lease_seconds(template, grant)
    if wanted is None:
        return min(template.default_lease_seconds, longest)
    if not 1 <= wanted <= longest:
        raise Invalid.field(
            "lease_seconds", f"This template and your grant allow leases of 1 to {longest} seconds."
        )
    return wanted


def maximum_lease_seconds(template: Template, grant: Grant | None) -> int:
    """Return the longest lease that template and grant allow, in seconds."""
    limits = [template.maximum_lease_seconds]
    if grant and grant.maximum_lease_seconds:
        limits.append(grant.maximum_lease_seconds)
    return min(limits)


def slug(name: str, length: int = 40) -> str:
    """Return `name` as a host takes it: lower-case letters, digits and single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:length].strip("-") or "vm"


def _free_name(template: Template) -> str:
    return f"{slug(template.name)}-{secrets.token_hex(4)}"
