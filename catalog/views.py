"""The pages of images and where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import AuditEvent
from catalog import caching, copies, sources
from catalog import images as domain
from catalog.forms import (
    CacheForm,
    ImageFilters,
    ImageForm,
    PullForm,
    RevokeImageForm,
    SourceForm,
    TaintForm,
)
from catalog.models import CatalogSource, HostImage, Image
from hosts.models import Host
from orchestrator.web import pages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

    from accounts.actors import Actor
    from jobs.models import Job
    from orchestrator.web.pages import PageRequest

form_view = require_http_methods(["GET", "HEAD", "POST"])


def _images(actor: Actor) -> QuerySet[Image]:
    """Return what the actor may see, without the secrets of where it comes from."""
    return Image.objects.visible_to(actor).select_related("source").defer("source__connection")


def _image(request: PageRequest, id: UUID, *, manage: bool = True) -> Image:
    image = get_object_or_404(_images(request.actor), pk=id)
    if manage:
        request.actor.require("images.manage")
    return image


def _page_of(image: Image) -> str:
    return reverse("catalog:image", args=[image.pk])


@pages.page
@require_safe
def images(request: PageRequest) -> HttpResponse:
    """Show images and sources."""
    request.actor.require("images.view")
    filters = ImageFilters(request.GET, _images(request.actor))
    rows = filters.qs.annotate(
        template_count=Count("templates", Q(templates__revoked_at=None), distinct=True)
    )
    context = {
        "slice": pages.newest_first(request, rows),
        "filters": filters,
        "sources": CatalogSource.objects.visible_to(request.actor)
        .select_related("added_by")
        .annotate(image_count=Count("images"))
        .order_by("name"),
    }
    return pages.render(request, "catalog/images.html", context, partial="live")


@pages.page
@require_safe
def image(request: PageRequest, id: UUID) -> HttpResponse:
    """Show an image: who uses it, who has it cached, what was done with it."""
    found = _image(request, id, manage=False)
    context = {
        "image": found,
        "templates": found.templates.order_by("name"),
        "copies": copies.copies_of([found])[:200],
        "audit": AuditEvent.objects.visible_to(request.actor)
        .filter(subject=f"image:{found.pk}")
        .order_by("-pk")[:20],
    }
    return pages.render(request, "catalog/image.html", context, partial="live")


@pages.page
@form_view
def new_source(request: PageRequest) -> HttpResponse:
    """Add a catalog source."""
    request.actor.require("images.manage")
    form = SourceForm(pages.posted(request))
    if source := pages.accepted(form, lambda v: sources.add_source(request.actor, **v)):
        return pages.done(request, reverse("catalog:images"), f"{source.name} was added.")
    return _dialog(request, form, "Add a catalog source", "Add")


@pages.page
@form_view
def new_image(request: PageRequest) -> HttpResponse:
    """Add an image of a source."""
    request.actor.require("images.manage")
    form = ImageForm(pages.posted(request), actor=request.actor)
    if added := pages.accepted(form, lambda v: domain.add_image(request.actor, **v)):
        return pages.done(request, reverse("catalog:images"), f"{added.name} was added.")
    return _dialog(request, form, "Add an image", "Add")


@pages.page
@form_view
def taint(request: PageRequest, id: UUID) -> HttpResponse:
    """Taint an image, after showing which VMs wait for it alone."""
    found = _image(request, id)
    form = TaintForm(pages.posted(request))
    if pages.accepted(form, lambda v: domain.set_taint(request.actor, found, True, **v)):
        return pages.done(request, _page_of(found), f"{found.name} is tainted.")
    text = "No new VM is made from it until the taint is taken away. VMs that exist are kept."
    hits = domain.preview(found, "taint")
    return _dialog(request, form, f"Taint {found.name}", "Taint", text, image=found, hits=hits)


@pages.page
@require_POST
def untaint(request: PageRequest, id: UUID) -> HttpResponse:
    """Take the taint away."""
    found = _image(request, id)
    domain.set_taint(request.actor, found, False)
    return pages.done(request, _page_of(found), f"{found.name} may be used again.")


@pages.page
@form_view
def revoke(request: PageRequest, id: UUID) -> HttpResponse:
    """Revoke an image, after showing which VMs that hits."""
    found = _image(request, id)
    cached_on = shown_copies(request.actor, [found])
    form = RevokeImageForm(
        pages.posted(request), copies=bool(cached_on) and request.actor.can("hosts.manage")
    )
    if pages.accepted(form, lambda v: domain.revoke(request.actor, found, **v)):
        return pages.done(request, _page_of(found), f"{found.name} was revoked.")
    text = "No VM is made from it ever again."
    hits = domain.preview(found, "revoke")
    return _dialog(
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


def _dialog(
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
def pull(request: PageRequest, id: UUID) -> HttpResponse:
    """Have a host download an image into its cache."""
    host = _cache_of(request, id)
    form = PullForm(pages.posted(request), actor=request.actor, host=host)
    if pages.accepted(form, lambda v: caching.pull(request.actor, host, **v)):
        return _cache_done(request, host, f"{host.name} is asked to pull it.")
    text = (
        "Its first VM need not wait for the download then. The host makes a VM of the image for "
        "it, which is deleted at once."
    )
    return _cache_dialog(request, host, form, f"Pull an image to {host.name}", "Pull", text)


@pages.page
@form_view
def delete_cached(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete one image (`?catalog_id=&version=`) or all from a host's cache, after asking."""
    host = _cache_of(request, id)
    asked = {name: request.GET.get(name, "") for name in ("catalog_id", "version")}
    form = CacheForm(pages.posted(request), initial=asked)

    def delete(values: dict[str, Any]) -> Job:
        everything = not values["catalog_id"]
        return caching.delete(request.actor, host, **values, everything=everything)

    if pages.accepted(form, delete):
        return _cache_done(request, host, f"{host.name} is asked to delete it.")
    what = f"{asked['catalog_id']} {asked['version']}".strip() or "everything"
    text = "The next VM made of it there waits for the download."
    return _cache_dialog(
        request, host, form, f"Delete {what} from the cache of {host.name}", "Delete", text, True
    )


def _cache_of(request: PageRequest, id: UUID) -> Host:
    hosts = Host.objects.visible_to(request.actor).select_related("status")
    host = get_object_or_404(hosts.defer("password", "api_key"), pk=id)
    request.actor.require("hosts.manage")
    return host


def _cache_done(request: PageRequest, host: Host, text: str) -> HttpResponse:
    return pages.done(request, reverse("hosts:detail", args=[host.pk]), text)


def _cache_dialog(
    request: PageRequest,
    host: Host,
    form: Any,
    title: str,
    verb: str,
    text: str,
    danger: bool = False,
) -> HttpResponse:
    context = {"host": host, "form": form, "title": title, "verb": verb, "text": text}
    return pages.render(
        request,
        "hosts/dialog.html",
        {**context, "danger": danger},
        partial="form",
        status=pages.status_of(form),
    )
