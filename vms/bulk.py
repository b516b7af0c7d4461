"""What can be done to many VMs or grants at once (`jobs.batches`), and draining many hosts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef
from django.utils.dateparse import parse_datetime

from accounts.api.serializers import RevokeInput
from hosts import holds
from hosts.api.serializers import WindowInput
from hosts.bulk import host_verb
from hosts.forms import WindowForm
from hosts.models import Host, HostHold
from jobs import batches
from jobs.batches import BulkVerb, Noun, matching
from orchestrator.refusals import Forbidden
from vms import draining, ending, forms, grants, leases, revocations, verbs
from vms.access_forms import GrantFilters
from vms.api import serializers
from vms.api.draining import DrainInput
from vms.api.machines import VMFilter
from vms.api.templates import GrantFilter
from vms.models import Grant, VirtualMachine, managed_by
from vms.states import OFFERED
from vms.verbs import snapshots

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from jobs.models import Job


def rows(actor: Actor) -> QuerySet[VirtualMachine]:
    """Return what the actor may see, with what pages show of it; secrets of hosts are not read."""
    return (
        VirtualMachine.objects.visible_to(actor).for_page().defer("host__password", "host__api_key")
    )


VMS = Noun(
    "VM",
    rows,
    lambda actor, query: matching(forms.VMFilters(query, rows(actor), actor=actor)),
    lambda actor, query: matching(VMFilter(query, rows(actor))),
)


def grant_rows(actor: Actor) -> QuerySet[Grant]:
    """Return the grants that the actor may see, and whether they manage the template by a grant."""
    managed = managed_by(actor).filter(template=OuterRef("template"))
    return Grant.objects.visible_to(actor).for_page().annotate(managed=Exists(managed))


GRANTS = Noun(
    "grant",
    grant_rows,
    lambda actor, query: matching(GrantFilters(query, grant_rows(actor))),
    lambda actor, query: matching(GrantFilter(query, grant_rows(actor))),
)


def _why_not_revoke(actor: Actor, grant: Grant) -> str:
    if grant.revoked_at:
        return "It was revoked already."
    if actor.can("templates.manage") or (
        grant.managed and actor.in_scope("templates")  # type: ignore[attr-defined]
    ):
        return ""
    return "You may not manage its template. Ask its owner."


def _why_not(verb: str, actor: Actor, vm: VirtualMachine) -> str:
    try:
        ending.require_use(actor, vm)
    except Forbidden as refusal:
        return refusal.message
    return "" if vm.state in OFFERED[verb] else f"It is {vm.state}."


def _why_not_extend(actor: Actor, vm: VirtualMachine) -> str:
    return _why_not("delete", actor, vm) or ("" if hasattr(vm, "lease") else "It has no lease.")


def _vm_verb(label: str, act: Callable[..., Job], offered: str, **more: Any) -> BulkVerb:
    return BulkVerb(label, VMS, partial(_why_not, offered), act, **more)


def _extend(actor: Actor, vm: VirtualMachine, *, lease_seconds: int | None = None) -> Job:
    return leases.extend(actor, vm, seconds=lease_seconds)


def _drain(actor: Actor, host: Host, *, deadline: str | None = None, **options: Any) -> Job:
    return draining.drain(
        actor, host, deadline=parse_datetime(deadline) if deadline else None, **options
    )


def _maintain(
    actor: Actor, host: Host, *, reason: str, until: str, starts_at: str | None = None
) -> Job:
    end, start = parse_datetime(until), parse_datetime(starts_at) if starts_at else None
    assert end is not None  # the API and the form have read it before
    return holds.plan_maintenance(actor, host, reason, end, start)


def register() -> None:
    """Offer the verbs on VMs, the drain of hosts and the end of grants for many at once."""
    for kind, verb in {
        "vm.start": _vm_verb("Start", verbs.start, "start"),
        "vm.stop": _vm_verb(
            "Stop", verbs.stop, "stop", form=forms.StopForm, options=serializers.StopInput
        ),
        "vm.suspend": _vm_verb("Suspend", verbs.suspend, "suspend"),
        "vm.pause": _vm_verb("Pause", verbs.pause, "pause"),
        "vm.resume": _vm_verb("Resume", verbs.resume, "resume"),
        "vm.restart": _vm_verb("Restart", verbs.restart, "restart"),
        "vm.reset": _vm_verb("Reset", verbs.reset, "reset", danger=True),
        "vm.take_snapshot": _vm_verb(
            "Take a snapshot",
            snapshots.take,
            "snapshot",
            form=forms.SnapshotForm,
            options=serializers.SnapshotInput,
        ),
        "vm.execute": _vm_verb(
            "Run a command",
            verbs.execute,
            "execute",
            form=forms.ExecuteForm,
            options=serializers.ExecuteInput,
        ),
        "vm.extend": BulkVerb(
            "Extend the lease",
            VMS,
            _why_not_extend,
            _extend,
            form=forms.ExtendManyForm,
            options=serializers.ExtendInput,
        ),
        "vm.resize": _vm_verb(
            "Resize",
            verbs.resize,
            "resize",
            form=forms.ResizeManyForm,
            options=serializers.ResizeInput,
        ),
        "vm.upload": _vm_verb(
            "Copy a file into them",
            verbs.upload,
            "execute",
            form=forms.UploadForm,
            options=serializers.UploadInput,
        ),
        "vm.delete_snapshots": _vm_verb(
            "Delete all snapshots", snapshots.delete_all, "snapshot", danger=True
        ),
        "vm.hold": BulkVerb(
            "Keep for debugging",
            VMS,
            _why_not_extend,
            leases.hold,
            form=forms.HoldForm,
            options=serializers.KeepInput,
        ),
        "vm.release": BulkVerb("Keep no longer", VMS, _why_not_extend, leases.release),
        "vm.delete": _vm_verb("Delete", ending.request_delete, "delete", danger=True),
        "host.drain": host_verb("Drain", _drain, form=forms.DrainForm, options=DrainInput),
        "host.maintain": host_verb(
            "Plan maintenance", _maintain, form=WindowForm, options=WindowInput
        ),
        "host.undrain": host_verb("Undrain", draining.undrain, held=HostHold.Kind.DRAIN),
        "grant.revoke": BulkVerb(
            "Revoke",
            GRANTS,
            _why_not_revoke,
            grants.revoke_grant,
            form=forms.RevokeForm,
            options=RevokeInput,
            danger=True,
            hits=revocations.preview_grants,
        ),
    }.items():
        batches.register(kind, verb)
