"""The pages of what hosts cache: pulled, deleted, kept to a quota, cached in advance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST

from catalog import caching, collecting
from catalog.forms import CacheForm, InAdvanceForm, PullForm, QuotaForm
from catalog.views.images import dialog, form_view, image_of
from hosts.models import Host
from jobs import batches
from orchestrator.web import pages

if TYPE_CHECKING:
    from uuid import UUID

    from jobs.models import Job
    from orchestrator.web.pages import PageRequest


@pages.page
@form_view
def pull(request: PageRequest, id: UUID) -> HttpResponse:
    """Have a host download an image into its cache."""
    host = cache_of(request, id)
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
    host = cache_of(request, id)
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


def cache_of(request: PageRequest, id: UUID) -> Host:
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


@pages.page
@form_view
def quota(request: PageRequest, id: UUID) -> HttpResponse:
    """Say how much a host may cache."""
    host = cache_of(request, id)
    form = QuotaForm(pages.posted(request), initial={"quota_mib": collecting.quota_of(host)})
    if pages.accepted(form, lambda v: collecting.set_quota(request.actor, host, **v)):
        return _cache_done(request, host, f"The cache of {host.name} has its quota.")
    text = (
        "What is over it is deleted, the least used first, but nothing that a VM which waits or is "
        "being made relies on."
    )
    return _cache_dialog(request, host, form, f"Quota of the cache of {host.name}", "Set", text)


@pages.page
@require_POST
def collect(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete what is over a host's quota now."""
    host = cache_of(request, id)
    collecting.collect(request.actor, host)
    return _cache_done(request, host, f"The cache of {host.name} is being collected.")


@pages.page
@form_view
def in_advance(request: PageRequest, id: UUID) -> HttpResponse:
    """Have chosen hosts, or all that fit, download an image: some at a time, within a window."""
    image = image_of(request, id)
    request.actor.require("hosts.manage")
    form = InAdvanceForm(pages.posted(request), actor=request.actor, image=image)

    def ask(values: dict[str, Any]) -> Job:
        options: dict[str, Any] = {"catalog_id": image.catalog_id, "version": image.version}
        options |= {
            name: values[name].isoformat() for name in ("not_before", "not_after") if values[name]
        }
        if values["mib_per_second"]:
            options["mib_per_second"] = caching.limit_of(image, values["mib_per_second"])
        hosts = list(values["hosts"] or form.fields["hosts"].queryset)  # type: ignore[attr-defined]
        return batches.request(
            request.actor, caching.PULL, hosts, options=options, at_once=values["at_once"]
        )

    if batch := pages.accepted(form, ask):
        return pages.done(request, reverse("jobs:job", args=[batch.pk]), "The hosts are asked.")
    text = (
        "Their first VMs need not wait for the download then. Cancelling the batch stops what has "
        "not begun."
    )
    return dialog(request, form, f"Cache {image.name} in advance", "Cache", text, image=image)
