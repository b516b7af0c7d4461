"""The pages of hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from hosts import enrolment, holds, inventory, looking, registering, removal, verbs
from hosts.forms import (
    ConnectionForm,
    EnrolForm,
    HoldForm,
    HostFilters,
    HostForm,
    LogsForm,
    RegisterForm,
    RemoveForm,
    UnregisterForm,
    WindowForm,
)
from hosts.models import Host
from jobs import batches
from jobs.models import Job
from orchestrator.refusals import Refusal
from orchestrator.web import pages

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor
    from hosts.forms import PinForm
    from orchestrator.web.pages import PageRequest

SHOWN_VMS = 200
form_view = require_http_methods(["GET", "HEAD", "POST"])


def _hosts(actor: Actor) -> QuerySet[Host]:
    """Return what the actor may see. Credentials are not even read where nothing connects."""
    return Host.objects.visible_to(actor).for_page().defer("password", "api_key")


def _host(request: PageRequest, id: UUID, *, manage: bool = True) -> Host:
    """Return the host that the address names; 404 for what the actor may not see."""
    host = get_object_or_404(_hosts(request.actor), pk=id)
    if manage:
        request.actor.require("hosts.manage")
    return host


def _page_of(host: Host) -> str:
    return reverse("hosts:detail", args=[host.pk])


def _number(counted: QuerySet[Any], what: str) -> Coalesce:
    """Return the count of `what` per host, as a subquery: only the rows of one page pay for it."""
    numbers = counted.filter(pk=OuterRef("pk")).values("pk").annotate(number=Count(what))
    return Coalesce(Subquery(numbers.order_by().values("number")), 0)


@pages.page
@require_safe
def host_list(request: PageRequest) -> HttpResponse:
    """Show the pool by name, fifty hosts at a time."""
    request.actor.require("hosts.view")
    hosts = _hosts(request.actor)
    filters = HostFilters(request.GET, hosts)
    rows = filters.qs.order_by("name", "pk").annotate(
        ours=_number(Host.objects.filter(placements__closed_at=None), "placements"),
        foreign=_number(Host.objects.filter(listed_vms__claimed=False), "listed_vms"),
    )
    context = {
        "page": Paginator(rows, pages.PAGE_SIZE).get_page(request.GET.get("page")),
        "filters": filters,
        "bulk": batches.verbs_on("host") if request.actor.can("hosts.manage") else {},
        "query": request.GET.urlencode(),
        "healths": Host.objects.present()
        .order_by("status__health")
        .values_list("status__health")
        .annotate(Count("pk")),
    }
    return pages.render(request, "hosts/list.html", context, partial="rows")


@pages.page
@form_view
def new(request: PageRequest) -> HttpResponse:
    """Enrol a host. The connection is tried first, and a refusal says what is wrong with it."""
    request.actor.require("hosts.manage")
    form = EnrolForm(pages.posted(request))

    def enrol(values: dict[str, Any]) -> Host:
        try:
            return enrolment.enrol(request.actor, **values)
        except Refusal as refusal:
            _offer(form, refusal)
            raise

    if host := pages.accepted(form, enrol):
        return pages.done(request, _page_of(host), f"{host.name} was enrolled.")
    return pages.render(
        request, "hosts/new.html", {"form": form}, partial="form", status=pages.status_of(form)
    )


def _offer(form: PinForm, refusal: Refusal) -> None:
    """Let the form offer what would make the refusal go away."""
    if isinstance(refusal, enrolment.TlsUntrusted):
        form.offer_pin(refusal.fingerprint)
    elif refusal.code == "host_known_machine" and isinstance(form, EnrolForm):
        form.offer_anyway()


@pages.page
@require_safe
def detail(request: PageRequest, id: UUID) -> HttpResponse:
    """Show a host: health, capacity and what charges it, holds, VMs, cache, history, jobs."""
    host = _host(request, id, manage=False)
    # Rooms above hang their rows on the host; they are read by relation, without importing them.
    placements = host.placements.filter(closed_at=None)
    charges = placements.select_related("vm__host__status").order_by("host_name")
    context = {
        "poll_seconds": settings.HOST_POLL_SECONDS,
        "host": host,
        "charges": charges,
        "ours": {charge.host_vm_id: charge.vm for charge in charges},
        "vms": host.listed_vms.order_by("-claimed", "name")[:SHOWN_VMS],
        "vm_count": host.listed_vms.count(),
        "twins": inventory.listed_elsewhere(host.pk),
        "images": host.cached_images.order_by("catalog_id", "version"),
        "health_changes": host.health_changes.order_by("-pk")[:15],
        "jobs": Job.objects.visible_to(request.actor)
        .about(f"host:{host.pk}")
        .for_page()
        .order_by("-pk")[:10],
        "planned": host.holds.planned().order_by("starts_at"),
        "left": placements.count(),
    }
    return pages.render(request, "hosts/detail.html", context, partial="live")


@pages.page
@form_view
def edit(request: PageRequest, id: UUID) -> HttpResponse:
    """Change name and tags."""
    host = _host(request, id)
    form = HostForm(pages.posted(request), initial={"name": host.name, "tags": host.tags})
    if pages.accepted(form, lambda v: enrolment.update_host(request.actor, host, **v)):
        return pages.done(request, _page_of(host), f"{host.name} was changed.")
    return _dialog(request, host, form, "Name and tags", "Save")


@pages.page
@form_view
def connection(request: PageRequest, id: UUID) -> HttpResponse:
    """Change credentials or the pinned certificate. They are tried first."""
    host = _host(request, id)
    form = ConnectionForm(
        pages.posted(request),
        initial={"username": host.username, "tls_fingerprint": host.tls_fingerprint},
    )

    def change(values: dict[str, Any]) -> Host:
        try:
            return enrolment.update_host(request.actor, host, **values)
        except Refusal as refusal:
            _offer(form, refusal)
            raise

    if pages.accepted(form, change):
        return pages.done(request, _page_of(host), f"The connection of {host.name} was changed.")
    return _dialog(request, host, form, "Credentials", "Try and save")


@pages.page
@form_view
def hold(request: PageRequest, id: UUID, kind: str) -> HttpResponse:
    """Cordon or disable a host, with a reason that everybody sees."""
    if kind not in holds.SIMPLE:
        raise Http404
    host = _host(request, id)
    form = HoldForm(pages.posted(request))
    if job := pages.accepted(form, lambda v: holds.hold(request.actor, host, kind, **v)):
        return pages.done(request, _page_of(host), job.message)
    verb = kind.capitalize()
    text = {
        "cordon": "It takes no new VMs. Those that it has go on running.",
        "disable": "It takes no new VMs and is not watched any more. Its VMs go on running.",
    }
    return _dialog(request, host, form, f"{verb} {host.name}", verb, text.get(kind, ""))


@pages.page
@form_view
def maintain(request: PageRequest, id: UUID) -> HttpResponse:
    """Plan a window of maintenance."""
    host = _host(request, id)
    form = WindowForm(pages.posted(request))
    if job := pages.accepted(form, lambda v: holds.plan_maintenance(request.actor, host, **v)):
        return pages.done(request, _page_of(host), job.message)
    text = "It takes no new VMs from the beginning to the end, which both come by themselves."
    return _dialog(request, host, form, f"Maintenance of {host.name}", "Plan it", text)


@pages.page
@require_POST
def end_hold(request: PageRequest, id: UUID, hold: UUID) -> HttpResponse:
    """End a hold, or take a planned window back."""
    host = _host(request, id)
    found = get_object_or_404(host.holds.select_related("host"), pk=hold)
    job = holds.end(request.actor, found)
    return pages.done(request, _page_of(host), job.message)


@pages.page
@require_POST
def look(request: PageRequest, id: UUID) -> HttpResponse:
    """Read the host's inventory now."""
    host = _host(request, id)
    verbs.request_inventory(request.actor, host)
    return pages.done(request, _page_of(host), f"Looking at {host.name}.")


@pages.page
@require_safe
def logs(request: PageRequest, id: UUID) -> HttpResponse:
    """Show the end of the host's log, asked for now (`?lines=`)."""
    host = _host(request, id, manage=False)
    form = LogsForm(request.GET or {"lines": looking.LINES})
    found = pages.accepted(form, lambda v: looking.logs(request.actor, host, **v))
    context = {"host": host, "form": form, "lines": found}
    return pages.render(
        request, "hosts/logs.html", context, partial="lines", status=pages.status_of(form)
    )


@pages.page
@require_safe
def reverse_proxy(request: PageRequest, id: UUID) -> HttpResponse:
    """Show what the host's reverse proxy does now."""
    host = _host(request, id, manage=False)
    proxy = looking.reverse_proxy(request.actor, host)
    names = dict(host.listed_vms.values_list("host_vm_id", "name"))
    context = {"host": host, "proxy": proxy, "names": names}
    return pages.render(request, "hosts/reverse_proxy.html", context)


@pages.page
@form_view
def register(request: PageRequest, id: UUID) -> HttpResponse:
    """Have the host list a VM that lies on its disk."""
    host = _host(request, id)
    form = RegisterForm(pages.posted(request))
    if pages.accepted(form, lambda v: registering.register(request.actor, host, **v)):
        return pages.done(request, _page_of(host), f"{host.name} is asked to register it.")
    text = "It is foreign then, and can be adopted."
    return _dialog(request, host, form, f"Register a VM on {host.name}", "Register", text)


@pages.page
@form_view
def unregister(request: PageRequest, id: UUID) -> HttpResponse:
    """Have the host list the foreign VM `?vm=` no longer, after asking."""
    host = _host(request, id)
    asked = request.POST.get("host_vm_id") or request.GET.get("vm", "")
    listed = get_object_or_404(host.listed_vms.all(), host_vm_id=asked, claimed=False)
    form = UnregisterForm(pages.posted(request), initial={"host_vm_id": asked})
    if pages.accepted(form, lambda v: registering.unregister(request.actor, host, **v)):
        return pages.done(request, _page_of(host), f"{host.name} is asked to unregister it.")
    text = "It must be stopped. It stays on the host's disk, from where it can be registered again."
    return _dialog(request, host, form, f"Unregister {listed.name}", "Unregister", text)


@pages.page
@form_view
def remove(request: PageRequest, id: UUID) -> HttpResponse:
    """Remove a host from the pool, after showing which of our VMs are on it."""
    host = _host(request, id)
    form = RemoveForm(pages.posted(request))
    if pages.accepted(form, lambda v: removal.remove(request.actor, host, **v)):
        return pages.done(request, reverse("hosts:list"), f"{host.name} was removed.")
    context = {
        "host": host,
        "form": form,
        "charges": host.placements.filter(closed_at=None).select_related("vm"),
    }
    return pages.render(
        request, "hosts/remove.html", context, partial="form", status=pages.status_of(form)
    )


def _dialog(
    request: PageRequest, host: Host, form: Any, title: str, verb: str, text: str = ""
) -> HttpResponse:
    """Show a form about a host: in the modal, or as a page of its own."""
    context = {"host": host, "form": form, "title": title, "verb": verb, "text": text}
    return pages.render(
        request, "hosts/dialog.html", context, partial="form", status=pages.status_of(form)
    )
