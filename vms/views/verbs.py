"""Dialogs and buttons of the verbs on a VM, beside those that every VM needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_http_methods, require_POST

from orchestrator.web import pages
from vms import leases, verbs
from vms.forms import (
    CloneForm,
    DeleteSnapshotForm,
    HoldForm,
    RenameForm,
    ResizeForm,
    SnapshotForm,
    UploadForm,
)
from vms.models import Snapshot
from vms.verbs import snapshots
from vms.views.machines import page_of, vm_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from django.http import HttpResponse

    from accounts.actors import Actor
    from jobs.models import Job
    from orchestrator.web.pages import PageRequest
    from vms.models import VirtualMachine


class CloneToTemplateForm(forms.Form):
    """A template to be made of a VM."""

    name = forms.CharField(max_length=100, label="Name of the template")
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))


form_view = require_http_methods(["GET", "HEAD", "POST"])


@pages.page
@require_POST
def pause(request: PageRequest, id: UUID) -> HttpResponse:
    return _press(request, id, verbs.pause, "{} is being paused.")


@pages.page
@require_POST
def resume(request: PageRequest, id: UUID) -> HttpResponse:
    return _press(request, id, verbs.resume, "{} is being resumed.")


@pages.page
@require_POST
def restart(request: PageRequest, id: UUID) -> HttpResponse:
    return _press(request, id, verbs.restart, "{} is being restarted.")


@pages.page
@require_POST
def look_for_snapshots(request: PageRequest, id: UUID) -> HttpResponse:
    return _press(request, id, snapshots.look, "The host of {} is asked.")


def _press(
    request: PageRequest, id: UUID, verb: Callable[[Actor, VirtualMachine], Job], told: str
) -> HttpResponse:
    """Act at once: a verb that needs no words."""
    vm = vm_of(request, id)
    verb(request.actor, vm)
    return pages.done(request, page_of(vm), told.format(vm.name))


@pages.page
@form_view
def hold(request: PageRequest, id: UUID) -> HttpResponse:
    """Keep a VM for debugging."""
    vm = vm_of(request, id)
    longest = settings.LEASE_HOLD_SECONDS
    return _dialog(
        request,
        vm,
        HoldForm(pages.posted(request), initial={"seconds": longest}),
        lambda v: leases.hold(request.actor, vm, **v),
        title=f"Keep {vm.name} for debugging",
        text="Neither the end of its lease nor a pipeline deletes it meanwhile.",
        verb="Keep it",
        told=f"{vm.name} is kept.",
    )


@pages.page
@require_POST
def release(request: PageRequest, id: UUID) -> HttpResponse:
    return _press(request, id, leases.release, "{} is kept no longer.")


@pages.page
@form_view
def reset(request: PageRequest, id: UUID) -> HttpResponse:
    """Cut the power of a VM and boot it, after asking."""
    vm = vm_of(request, id)
    return _dialog(
        request,
        vm,
        forms.Form(pages.posted(request)),
        lambda v: verbs.reset(request.actor, vm),
        title=f"Reset {vm.name}",
        text="Its power is cut and it boots anew. What its guest had not written is lost.",
        verb="Reset",
        told=f"{vm.name} is being reset.",
        danger=True,
    )


@pages.page
@form_view
def resize(request: PageRequest, id: UUID) -> HttpResponse:
    """Give a stopped VM another size."""
    vm = vm_of(request, id)
    size = {"cpus": vm.cpus, "memory_mib": vm.memory_mib, "disk_gib": vm.disk_gib}
    return _dialog(
        request,
        vm,
        ResizeForm(pages.posted(request), initial=size),
        lambda v: verbs.resize(request.actor, vm, **v),
        title=f"Resize {vm.name}",
        text="What it grows by is taken from its host's capacity at once.",
        verb="Resize",
        told=f"{vm.name} is being resized.",
    )


@pages.page
@form_view
def rename(request: PageRequest, id: UUID) -> HttpResponse:
    """Give a VM another name."""
    vm = vm_of(request, id)
    return _dialog(
        request,
        vm,
        RenameForm(pages.posted(request), initial={"name": vm.name}),
        lambda v: verbs.rename(request.actor, vm, **v),
        title=f"Rename {vm.name}",
        verb="Rename",
        told="It has its new name.",
    )


@pages.page
@form_view
def clone(request: PageRequest, id: UUID) -> HttpResponse:
    """Clone a stopped VM; goes to the page of the new one."""
    vm = vm_of(request, id)
    return _dialog(
        request,
        vm,
        CloneForm(pages.posted(request)),
        lambda v: verbs.clone(request.actor, vm, **v),
        title=f"Clone {vm.name}",
        text=f"The new VM has the size of {vm.name} and comes on the same host.",
        verb="Clone",
        told=f"A clone of {vm.name} was asked for.",
        goes_to=page_of,
    )


@pages.page
@form_view
def clone_to_template(request: PageRequest, id: UUID) -> HttpResponse:
    """Make a template of a stopped VM."""
    vm = vm_of(request, id)
    request.actor.require("templates.manage")
    return _dialog(
        request,
        vm,
        CloneToTemplateForm(pages.posted(request)),
        lambda v: verbs.clone_to_template(request.actor, vm, **v),
        title=f"Make a template of {vm.name}",
        text="It is cloned on its host, under a new name. VMs of the template are cloned from that "
        "clone, on the same host, with the size of this VM.",
        verb="Make it",
        told="The template is being made.",
    )


@pages.page
@form_view
def upload(request: PageRequest, id: UUID) -> HttpResponse:
    """Copy a file of the VM's host into the guest."""
    vm = vm_of(request, id)
    request.actor.require("hosts.manage")
    return _dialog(
        request,
        vm,
        UploadForm(pages.posted(request)),
        lambda v: verbs.upload(request.actor, vm, **v),
        title=f"Copy a file into {vm.name}",
        text=f"The file lies on the disk of {vm.host or 'its host'}.",
        verb="Copy",
        told="The file is being copied.",
    )


@pages.page
@form_view
def take_snapshot(request: PageRequest, id: UUID) -> HttpResponse:
    """Take a snapshot."""
    vm = vm_of(request, id)
    return _dialog(
        request,
        vm,
        SnapshotForm(pages.posted(request)),
        lambda v: snapshots.take(request.actor, vm, **v),
        title=f"Take a snapshot of {vm.name}",
        text="Of a running VM it holds the memory, too: reverting brings it back running.",
        verb="Take it",
        told="The snapshot is being taken.",
    )


@pages.page
@form_view
def delete_snapshots(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete all snapshots of a VM, after asking."""
    vm = vm_of(request, id)
    return _dialog(
        request,
        vm,
        forms.Form(pages.posted(request)),
        lambda v: snapshots.delete_all(request.actor, vm),
        title=f"Delete all snapshots of {vm.name}",
        text="The VM stays as it is now. There is no way back to any of them.",
        verb="Delete all",
        told="The snapshots are being deleted.",
        danger=True,
    )


@pages.page
@form_view
def revert_snapshot(request: PageRequest, id: UUID, snapshot: UUID) -> HttpResponse:
    """Bring a VM back to a snapshot, after asking."""
    vm, row = _snapshot(request, id, snapshot)
    then = "runs" if row.with_memory else "is stopped"
    return _dialog(
        request,
        vm,
        forms.Form(pages.posted(request)),
        lambda v: snapshots.revert(request.actor, row),
        title=f"Revert {vm.name} to {row.name}",
        text=f"Everything that changed since then is lost. Afterwards the VM {then}.",
        verb="Revert",
        told=f"{vm.name} is being reverted.",
        danger=True,
    )


@pages.page
@form_view
def delete_snapshot(request: PageRequest, id: UUID, snapshot: UUID) -> HttpResponse:
    """Delete a snapshot, after asking."""
    vm, row = _snapshot(request, id, snapshot)
    return _dialog(
        request,
        vm,
        DeleteSnapshotForm(pages.posted(request)),
        lambda v: snapshots.delete(request.actor, row, **v),
        title=f"Delete the snapshot {row.name}",
        text="The VM stays as it is now.",
        verb="Delete",
        told="The snapshot is being deleted.",
        danger=True,
    )


def _snapshot(request: PageRequest, id: UUID, snapshot: UUID) -> tuple[VirtualMachine, Snapshot]:
    vm = vm_of(request, id)
    rows = vm.snapshots.select_related("vm__host").defer("vm__host__password", "vm__host__api_key")
    return vm, get_object_or_404(rows, pk=snapshot)


def _dialog(
    request: PageRequest,
    vm: VirtualMachine,
    form: forms.Form,
    act: Callable[[dict[str, Any]], Any],
    *,
    title: str,
    verb: str,
    told: str,
    text: str = "",
    danger: bool = False,
    goes_to: Callable[[Any], str] | None = None,
) -> HttpResponse:
    """Show the form of a verb, or call the verb and go to the VM's page (or to `goes_to`'s)."""
    return pages.dialog(
        request,
        "vms/verb.html",
        form,
        act,
        back=goes_to or page_of(vm),
        told=told,
        vm=vm,
        title=title,
        text=text,
        verb=verb,
        danger=danger,
    )
