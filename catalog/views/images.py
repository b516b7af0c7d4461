"""The pages of images and where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import AuditEvent
from catalog import caching, copies, metadata, readiness
from catalog import images as domain
from catalog.forms import (
    ChangeImageForm,
    ImageFilters,
    ImageForm,
    RemoveImageForm,
    RevokeImageForm,
    TaintForm,
    UnrevokeForm,
)
from catalog.models import CatalogSource, HostImage, Image
from catalog.sources import counted
from jobs.models import Job
from orchestrator.web import pages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from orchestrator.web.pages import PageRequest

form_view = require_http_methods(["GET", "HEAD", "POST"])


def visible(actor: Actor) -> QuerySet[Image]:
    """Return what the actor may see, without the secrets of where it comes from."""
    rows = Image.objects.visible_to(actor).prefetch_related("labels")
    return rows.select_related("source").defer("source__connection")


def image_of(request: PageRequest, id: UUID, *, manage: bool = True) -> Image:
    image = get_object_or_404(visible(request.actor), pk=id)
    if manage:
        request.actor.require("images.manage")
    return image


def page_of(image: Image) -> str:
    return reverse("catalog:image", args=[image.pk])


@pages.page
@require_safe
def images(request: PageRequest) -> HttpResponse:
    """Show images and sources."""
    request.actor.require("images.view")
    filters = ImageFilters(request.GET, visible(request.actor))
    rows = filters.qs.annotate(
        template_count=Count("templates", Q(templates__revoked_at=None), distinct=True)
    )
    context = {
        "slice": pages.newest_first(request, rows),
        "filters": filters,
        "sources": counted(CatalogSource.objects.visible_to(request.actor))
        .select_related("added_by")
        .order_by("name"),
    }
    return pages.render(request, "catalog/images.html", context, partial="live")


@pages.page
@require_safe
def image(request: PageRequest, id: UUID) -> HttpResponse:
    """Show an image: who uses it, who has it cached, what was done with it."""
    found = image_of(request, id, manage=False)
    context = {
        "image": found,
        "templates": found.templates.order_by("name"),
        "versions": visible(request.actor)
        .filter(source=found.source_id, catalog_id__iexact=found.catalog_id)
        .exclude(pk=found.pk)
        .order_by("-pk")[:50],
        "copies": copies.copies_of([found])[:200],
        "pulls": Job.objects.visible_to(request.actor)
        .open()
        .filter(kind=caching.PULL, payload__image=str(found.pk))
        .for_page()
        .order_by("-pk")[:50],
        "jobs": Job.objects.visible_to(request.actor)
        .about(f"image:{found.pk}")
        .for_page()
        .order_by("-pk")[:10],
        "audit": AuditEvent.objects.visible_to(request.actor)
        .filter(subject=f"image:{found.pk}")
        .order_by("-pk")[:20],
    }
    return pages.render(request, "catalog/image.html", context, partial="live")


@pages.page
@form_view
def new_image(request: PageRequest) -> HttpResponse:
    """Add an image of a source."""
    request.actor.require("images.manage")
    form = ImageForm(pages.posted(request), actor=request.actor)
    if added := pages.accepted(form, lambda v: domain.add_image(request.actor, **v)):
        return pages.done(request, reverse("catalog:images"), f"{added.name} was added.")
    return dialog(request, form, "Add an image", "Add")


@pages.page
@form_view
def taint(request: PageRequest, id: UUID) -> HttpResponse:
    """Taint an image, after showing which VMs wait for it alone."""
    found = image_of(request, id)
    form = TaintForm(pages.posted(request))
    if pages.accepted(form, lambda v: domain.set_taint(request.actor, found, True, **v)):
        return pages.done(request, page_of(found), f"{found.name} is tainted.")
    text = "No new VM is made from it until the taint is taken away. VMs that exist are kept."
    hits = domain.preview(found, "taint")
    return dialog(request, form, f"Taint {found.name}", "Taint", text, image=found, hits=hits)


@pages.page
@require_POST
def untaint(request: PageRequest, id: UUID) -> HttpResponse:
    """Take the taint away."""
    found = image_of(request, id)
    domain.set_taint(request.actor, found, False)
    return pages.done(request, page_of(found), f"{found.name} may be used again.")


@pages.page
@form_view
def revoke(request: PageRequest, id: UUID) -> HttpResponse:
    """Revoke an image, after showing which VMs that hits."""
    found = image_of(request, id)
    cached_on = shown_copies(request.actor, [found])
    form = RevokeImageForm(
        pages.posted(request), copies=bool(cached_on) and request.actor.can("hosts.manage")
    )
    if pages.accepted(form, lambda v: domain.revoke(request.actor, found, **v)):
        return pages.done(request, page_of(found), f"{found.name} was revoked.")
    text = "No VM is made from it ever again."
    hits = domain.preview(found, "revoke")
    return dialog(
        request,
        form,
        f"Revoke {found.name}",
        "Revoke",
        text,
        image=found,
        hits=hits,
        copies=cached_on,
        danger=True,
    )


def shown_copies(actor: Actor, images: Iterable[Image]) -> list[HostImage]:
    """Return the cached copies of `images` that a page shows: to those who see hosts."""
    return list(copies.copies_of(images)) if actor.can("hosts.view") else []


def dialog(
    request: PageRequest, form: object, title: str, verb: str, text: str = "", **context: object
) -> HttpResponse:
    """Show a form: in the modal, or as a page of its own."""
    return pages.render(
        request,
        "catalog/dialog.html",
        {"form": form, "title": title, "verb": verb, "text": text, **context},
        partial="form",
        status=pages.status_of(form),  # type: ignore[arg-type]
    )


@pages.page
@form_view
def edit(request: PageRequest, id: UUID) -> HttpResponse:
    """Describe and tag an image, and say who it is open to."""
    found = image_of(request, id)
    form = ChangeImageForm(pages.posted(request), initial=ChangeImageForm.of(found))
    if pages.accepted(form, lambda v: domain.change(request.actor, found, **v)):
        return pages.done(request, page_of(found), f"{found.name} was changed.")
    return dialog(request, form, f"Change {found.name}", "Change", image=found)


@pages.page
@form_view
def unrevoke(request: PageRequest, id: UUID) -> HttpResponse:
    """Bring a revoked image back, with a reason."""
    found = image_of(request, id)
    request.actor.require("accounts.manage")
    form = UnrevokeForm(pages.posted(request))
    if pages.accepted(form, lambda v: domain.unrevoke(request.actor, found, **v)):
        return pages.done(request, page_of(found), f"{found.name} may be used again.")
    text = "VMs may be made from it again. What its revocation ended stays ended."
    return dialog(request, form, f"Bring {found.name} back", "Bring it back", text, image=found)


@pages.page
@require_POST
def verify(request: PageRequest, id: UUID) -> HttpResponse:
    """Read the pack and compare its checksums."""
    found = image_of(request, id)
    metadata.verify(request.actor, found)
    return pages.done(request, page_of(found), "Its pack is being read.")


@pages.page
@form_view
def remove(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete an image from the catalog, and by choice from storage and caches."""
    found = image_of(request, id)
    cached_on = shown_copies(request.actor, [found])
    form = RemoveImageForm(
        pages.posted(request),
        stored=found.source.is_storage,
        copies=bool(cached_on) and request.actor.can("hosts.manage"),
    )
    if pages.accepted(form, lambda v: domain.remove(request.actor, found, **v)):
        return pages.done(request, reverse("catalog:images"), f"{found.name} was deleted.")
    text = "VMs that exist are kept. A template that is made from it must go first."
    title = f"Delete {found.name}"
    return dialog(request, form, title, "Delete", text, image=found, copies=cached_on, danger=True)


@pages.page
@require_safe
def ready(request: PageRequest) -> HttpResponse:
    """Show which host has which image, and which would have to download it."""
    request.actor.require("images.view")
    request.actor.require("hosts.view")
    filters = ImageFilters(request.GET, visible(request.actor))
    rows = pages.newest_first(request, filters.qs)
    hosts = readiness.hosts_of(request.actor)
    context = {
        "filters": filters,
        "slice": rows,
        "hosts": hosts,
        "matrix": readiness.matrix(rows.rows, hosts),
        "use": readiness.use_of(hosts),
        "maximum_hosts": readiness.MAXIMUM_HOSTS,
    }
    return pages.render(request, "catalog/readiness.html", context, partial="rows")
