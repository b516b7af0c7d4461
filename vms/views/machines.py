"""The pages of VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import AuditEvent
from hosts import inventory
from jobs import batches
from jobs.models import Job, JobLine
from orchestrator.refusals import Forbidden
from orchestrator.web import pages
from vms import bulk, ending, leases, queue, requests, verbs
from vms.forms import ExecuteForm, ExtendForm, VMFilters, VMForm, WhyNotForm, usable_templates
from vms.models import VirtualMachine
from vms.placement import why_not_host
from vms.snapshots import as_tree
from vms.states import MOVES, OFFERED, State
from vms.terms import maximum_lease_seconds

if TYPE_CHECKING:
    from accounts.actors import Actor
    from orchestrator.web.pages import PageRequest
    from vms.models import Placement

form_view = require_http_methods(["GET", "HEAD", "POST"])
SHOWN_COMMANDS = 3
SECRETS = ("host__password", "host__api_key")


def vm_of(request: PageRequest, id: UUID, *, use: bool = True) -> VirtualMachine:
    """Return the VM that the address names; 404 for what the actor may not see."""
    vm = get_object_or_404(bulk.rows(request.actor), pk=id)
    if use:
        ending.require_use(request.actor, vm)
    return vm


def page_of(vm: VirtualMachine) -> str:
    return reverse("vms:detail", args=[vm.pk])


@pages.page
@require_safe
def vm_list(request: PageRequest) -> HttpResponse:
    """Show VMs, newest first; at first those that have not ended."""
    asked = request.GET.copy()
    asked.setdefault("state", "open")
    filters = VMFilters(asked, bulk.rows(request.actor), actor=request.actor)
    context = {
        "slice": pages.newest_first(request, filters.qs),
        "filters": filters,
        "bulk": batches.verbs_on("VM") if request.actor.can("vms.use") else {},
        "query": asked.urlencode(),
    }
    return pages.render(request, "vms/list.html", context, partial="rows")


@pages.page
@form_view
def new(request: PageRequest) -> HttpResponse:
    """Ask for a VM."""
    request.actor.require("vms.use")
    form = VMForm(
        pages.posted(request),
        actor=request.actor,
        initial={"template": request.GET.get("template", "")},
    )
    if vm := pages.accepted(form, lambda v: requests.request_vm(request.actor, **v)):
        return pages.done(request, page_of(vm), f"{vm.name} was asked for.")
    context = {"form": form, "templates": usable_templates(request.actor)}
    return pages.render(
        request, "vms/new.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@require_safe
def detail(request: PageRequest, id: UUID) -> HttpResponse:
    """Show a VM: its life, its lease, the work under way, why it is where it is, its history."""
    vm = vm_of(request, id, use=False)
    jobs = Job.objects.visible_to(request.actor).about(vm.subject).for_page().order_by("-pk")
    running = jobs.open().first()
    placement = vm.placements.filter(current=True).select_related("host", "image").first()
    context = {
        "vm": vm,
        "can": _actions(request.actor, vm),
        "place": queue.places().get(vm.pk) if vm.state == State.PENDING else None,
        "placement": placement,
        "twins": _twins(placement),
        "attempts": vm.placements.select_related("host").order_by("pk"),
        "job": running,
        "lines": JobLine.objects.filter(job=running).order_by("-pk")[:8] if running else (),
        "commands": jobs.filter(kind="vm.execute")[:SHOWN_COMMANDS],
        "jobs": jobs[:12],
        "ended": vm.placements.ended().select_related("host").defer(*SECRETS),
        "snapshots": as_tree(vm.snapshots.order_by("pk")),
        "command_form": ExecuteForm(),
        "audit": AuditEvent.objects.visible_to(request.actor)
        .filter(subject=vm.subject)
        .order_by("-pk")[:12],
    }
    return pages.render(request, "vms/detail.html", context, partial="live")


def _twins(placement: Placement | None) -> list[str]:
    """Return the names of other hosts that list a VM with the id that this one has on its host."""
    if placement is None or placement.closed_at or not placement.host_vm_id:
        return []
    found = inventory.listed_elsewhere(placement.host_id, placement.host_vm_id)
    return found.get(placement.host_vm_id, [])


def _actions(actor: Actor, vm: VirtualMachine) -> set[str]:
    """Return the verbs to offer: those that the VM's state allows, to those who may act on it."""
    try:
        ending.require_use(actor, vm)
    except Forbidden:
        return set()
    offered = {verb for verb, states in OFFERED.items() if vm.state in states}
    if hasattr(vm, "lease") and State.DELETING in MOVES[State(vm.state)]:
        offered.add("extend")
    return offered


@pages.page
@require_POST
def start(request: PageRequest, id: UUID) -> HttpResponse:
    vm = vm_of(request, id)
    verbs.start(request.actor, vm)
    return pages.done(request, page_of(vm), f"{vm.name} is being started.")


@pages.page
@form_view
def stop(request: PageRequest, id: UUID) -> HttpResponse:
    """Stop a VM: the guest is asked to shut down, or with `force` is not."""
    vm = vm_of(request, id)
    if request.method == "POST":
        verbs.stop(request.actor, vm, force="force" in request.POST)
        return pages.done(request, page_of(vm), f"{vm.name} is being stopped.")
    return pages.render(request, "vms/stop.html", {"vm": vm}, partial="form")


@pages.page
@require_POST
def suspend(request: PageRequest, id: UUID) -> HttpResponse:
    vm = vm_of(request, id)
    verbs.suspend(request.actor, vm)
    return pages.done(request, page_of(vm), f"{vm.name} is being suspended.")


@pages.page
@form_view
def delete(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete a VM, after asking."""
    vm = vm_of(request, id)
    if request.method == "POST":
        ending.request_delete(request.actor, vm)
        return pages.done(request, page_of(vm), f"{vm.name} is being deleted.")
    return pages.render(request, "vms/delete.html", {"vm": vm}, partial="form")


@pages.page
@form_view
def extend(request: PageRequest, id: UUID) -> HttpResponse:
    """Let the lease end later, counted from now."""
    vm = vm_of(request, id)
    form = ExtendForm(pages.posted(request), initial={"seconds": vm.lease_seconds})
    if pages.accepted(form, lambda v: leases.extend(request.actor, vm, **v)):
        return pages.done(request, page_of(vm), f"The lease of {vm.name} was extended.")
    context: dict[str, Any] = {
        "vm": vm,
        "form": form,
        "longest": maximum_lease_seconds(vm.template, vm.grant),
    }
    return pages.render(
        request, "vms/extend.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@form_view
def execute(request: PageRequest, id: UUID) -> HttpResponse:
    """Run a command in the guest; its output appears on the VM's page."""
    vm = vm_of(request, id)
    form = ExecuteForm(pages.posted(request))
    if pages.accepted(form, lambda v: verbs.execute(request.actor, vm, **v)):
        answer = pages.done(request, page_of(vm))
        if "HX-Trigger" not in answer:
            return answer
        # On the VM's page already: the form is shown clean, with the command kept.
        form = ExecuteForm(initial=form.cleaned_data)
        answer = pages.render(
            request, "vms/execute.html", {"vm": vm, "command_form": form}, partial="command"
        )
        answer["HX-Trigger"] = pages.DONE_TRIGGER
        return answer
    context = {"vm": vm, "command_form": form}
    return pages.render(
        request, "vms/execute.html", context, partial="command", status=pages.status_of(form)
    )


@pages.page
@require_safe
def placement(request: PageRequest, id: UUID) -> HttpResponse:
    """Explain where the VM is or why it waits; with `?host=` why it is not there."""
    vm = vm_of(request, id, use=False)
    form = WhyNotForm(request.GET or None, actor=request.actor)
    host = form.cleaned_data["host"] if form.is_valid() else None
    context = {
        "vm": vm,
        "form": form,
        "host": host,
        "rejection": why_not_host(vm, host) if host else None,
        "attempts": vm.placements.select_related("host", "image").order_by("-pk"),
    }
    return pages.render(request, "vms/placement.html", context, partial="answer")
