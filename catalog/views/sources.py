"""The pages of sources, and of pushing a VM into a storage."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from catalog import pushing, remotes, sources
from catalog.forms import ChangeSourceForm, PushForm, PushFromForm, SourceForm
from catalog.models import CatalogSource
from catalog.views.images import dialog, form_view
from hosts.models import Host
from jobs.models import Job
from orchestrator.refusals import Conflict
from orchestrator.web import pages

if TYPE_CHECKING:
    from orchestrator.web.pages import PageRequest

JOBS = 10


@pages.page
@form_view
def new_source(request: PageRequest) -> HttpResponse:
    """Add a catalog source."""
    request.actor.require("images.manage")
    form = SourceForm(pages.posted(request))
    if source := pages.accepted(form, lambda v: sources.add_source(request.actor, **v)):
        return pages.done(request, reverse("catalog:images"), f"{source.name} was added.")
    return dialog(request, form, "Add a catalog source", "Add")


def _source(request: PageRequest, id: UUID, *, manage: bool = True) -> CatalogSource:
    rows = sources.counted(CatalogSource.objects.visible_to(request.actor))
    found = get_object_or_404(rows.select_related("added_by"), pk=id)
    if manage:
        request.actor.require("images.manage")
    return found


def _page_of(source: CatalogSource) -> str:
    return reverse("catalog:source", args=[source.pk])


@pages.page
@require_safe
def source(request: PageRequest, id: UUID) -> HttpResponse:
    """Show a source: what is stored, what was imported, and with `?browse=` what it offers."""
    found = _source(request, id, manage=False)
    offered, problem = None, ""
    if "browse" in request.GET and not found.is_storage:
        try:
            offered = remotes.browse(request.actor, found)
        except Conflict as refusal:
            problem = refusal.message
    jobs = Job.objects.visible_to(request.actor).about(f"source:{found.pk}").for_page()
    context = {
        "source": found,
        "images": found.images.filter(removed_at=None).order_by("-pk")[:50],
        "jobs": jobs.order_by("-pk")[:JOBS],
        "offered": offered,
        "problem": problem,
    }
    return pages.render(request, "catalog/source.html", context, partial="live")


@pages.page
@form_view
def edit(request: PageRequest, id: UUID) -> HttpResponse:
    """Change a source; an empty connection stays."""
    found = _source(request, id)
    initial = {name: getattr(found, name) for name in ("name", "hands_out_keys", "active")}
    form = ChangeSourceForm(pages.posted(request), initial=initial)
    if pages.accepted(form, lambda v: sources.change_source(request.actor, found, **v)):
        return pages.done(request, _page_of(found), f"{found.name} was changed.")
    return dialog(request, form, f"Change {found.name}", "Change")


@pages.page
@require_POST
def bring_in(request: PageRequest, id: UUID) -> HttpResponse:
    """Import everything that the source's metadata describes."""
    found = _source(request, id)
    sources.request_import(request.actor, found)
    return pages.done(request, _page_of(found), f"{found.name} is being read.")


@pages.page
@require_POST
def remove(request: PageRequest, id: UUID) -> HttpResponse:
    """Remove a source that has no images."""
    found = _source(request, id)
    sources.remove_source(request.actor, found)
    return pages.done(request, reverse("catalog:images"), f"{found.name} was removed.")


@pages.page
@form_view
def push(request: PageRequest) -> HttpResponse:
    """Choose the host whose VM is to be pushed."""
    _may_push(request)
    form = PushFromForm(pages.posted(request), actor=request.actor)
    if host := pages.accepted(form, lambda values: values["host"]):
        return pages.done(request, reverse("catalog:push-from", args=[host.pk]))
    text = "The host packs a VM that is stopped, and writes it to a storage."
    return dialog(request, form, "Push a VM into the catalog", "Go on", text)


@pages.page
@form_view
def push_from(request: PageRequest, id: UUID) -> HttpResponse:
    """Push a VM of a host into a storage."""
    hosts = Host.objects.visible_to(request.actor).select_related("status")
    host = get_object_or_404(hosts.defer("password", "api_key"), pk=id)
    _may_push(request)
    form = PushForm(pages.posted(request), actor=request.actor, host=host)

    def act(values: dict[str, object]) -> Job:
        storage = values.pop("source")
        return pushing.push(request.actor, storage, host, **values)  # type: ignore[arg-type]

    if job := pages.accepted(form, act):
        text = f"{host.name} is asked to push it."
        return pages.done(request, reverse("jobs:job", args=[job.pk]), text)
    text = f"The image will be for {host.status.architecture}, and get the tag “latest”."
    return dialog(request, form, f"Push a VM of {host.name}", "Push", text)


def _may_push(request: PageRequest) -> None:
    request.actor.require("images.manage")
    request.actor.require("hosts.manage")
