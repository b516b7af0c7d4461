"""Finding what a path names: a host by id, address or name, a machine by id or name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Q

from hosts.models import Host, HostVM
from orchestrator.refusals import NotFound
from vms.models import Template, VirtualMachine

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor


def as_id(reference: str) -> UUID | None:
    """Return a reference as an id, with or without the braces of Parallels; None if it is none."""
    try:
        return UUID(reference.strip("{}"))
    except ValueError:
        return None


def host_named(actor: Actor, reference: str) -> Host:
    """Return the host that the actor may see by its id, address or name. Raises `NotFound`."""
    hosts = Host.objects.visible_to(actor).for_page().defer("password", "api_key")
    pk = as_id(reference)
    found = hosts.filter(pk=pk).first() if pk else None
    found = found or hosts.filter(Q(url__iexact=reference) | Q(name__iexact=reference)).first()
    if found is None:
        raise NotFound(f"Host {reference} not found")
    return found


def machines(actor: Actor, host: str = "") -> QuerySet[VirtualMachine]:
    """Return the VMs that the actor may see and that have not ended; with `host` only its own."""
    found = VirtualMachine.objects.visible_to(actor).open().for_page()
    found = found.defer("host__password", "host__api_key")
    return found.filter(host=host_named(actor, host)) if host else found


def machine(actor: Actor, reference: str, host: str = "") -> VirtualMachine:
    """Return the VM of this id or, ignoring case, of this name. Raises `NotFound`."""
    rows = machines(actor, host)
    pk = as_id(reference)
    found = rows.filter(pk=pk).first() if pk else None
    found = found or rows.filter(name__iexact=reference).first()
    if found is None:
        raise NotFound(f"Virtual machine {reference} not found")
    return found


def base_machine(actor: Actor, reference: str) -> HostVM | None:
    """Return a host's VM that is not ours: of a name from which a template of the actor is cloned.

    Those who may see hosts find every VM that these list, by its id there or its name.
    """
    rows = HostVM.objects.filter(claimed=False, host__removed_at=None)
    named = Q(name__iexact=reference)
    if actor.can("hosts.view"):
        rows = rows.filter(named | Q(host_vm_id=reference))
    elif Template.objects.visible_to(actor).live().filter(clone_of__iexact=reference).exists():
        rows = rows.filter(named)
    else:
        return None
    return rows.select_related("host__status").defer("host__password", "host__api_key").first()
