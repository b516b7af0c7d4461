"""Pages of packages."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from deployments import documents, packages
from deployments.api.packages import download
from deployments.forms import ImportForm
from deployments.models import Package
from deployments.policy_forms import VersionForm
from orchestrator.web import pages
from vms.views.templates import form_view

if TYPE_CHECKING:
    from uuid import UUID

    from orchestrator.web.pages import PageRequest

EXAMPLE = """application: Shop
version: "1.0"
orchestrators: [parallel-by-container]
deployables:
  - name: greet
    type: script
    tags: ["*"]
    properties:
      script: echo Hello from {{container.name}}
      undo: echo Goodbye
"""


def _package(request: PageRequest, id: UUID) -> Package:
    return get_object_or_404(Package.objects.visible_to(request.actor).whole(), pk=id)


@require_safe
@pages.page
def package_list(request: PageRequest) -> HttpResponse:
    """List all versions, newest first."""
    rows = Package.objects.visible_to(request.actor).select_related("application", "created_by")
    text = request.GET.get("q", "").strip()
    if text:
        rows = rows.filter(application__name__icontains=text)
    rows = rows.prefetch_related("deployables", "parts", "deployed_applications__environment")
    context = {"slice": pages.newest_first(request, rows), "q": text}
    return pages.render(request, "deployments/packages.html", context, partial="rows")


@require_safe
@pages.page
def package_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show a version: what it wants, and where it is."""
    package = _package(request, id)
    on = package.deployed_applications.select_related("environment")
    context = {
        "package": package,
        "on": on,
        "part_of": package.part_of.select_related("composite__application"),
        "yaml": documents.write_yaml(packages.document_of(package)),
    }
    return pages.render(request, "deployments/package.html", context, partial="live")


@form_view
@pages.page
def import_package(request: PageRequest) -> HttpResponse:
    """Import a package from a file, or from YAML that is typed."""
    request.actor.require("deployments.manage")
    form = ImportForm(pages.posted(request), request.FILES or None, initial={"yaml": EXAMPLE})

    def act(values: dict[str, Any]) -> Package:
        stream = values["file"] or io.BytesIO(values["yaml"].encode())
        return packages.import_package(request.actor, stream)

    made = pages.accepted(form, act)
    if made:
        return pages.done(request, page_of(made), f"{made} was imported.")
    context = {"form": form}
    return pages.render(
        request, "deployments/import.html", context, partial="form", status=pages.status_of(form)
    )


@form_view
@pages.page
def new_version(request: PageRequest, id: UUID) -> HttpResponse:
    """Make another version of a package, with another policy."""
    package = _package(request, id)
    request.actor.require("deployments.manage")
    form = VersionForm(pages.posted(request), policy=package.policy)
    made = pages.accepted(
        form,
        lambda values: packages.copy_package(
            request.actor, package, version=values["version"], policy=form.policy()
        ),
    )
    if made:
        return pages.done(request, page_of(made), f"{made} was made.")
    context = {
        "form": form,
        "title": f"New version of {package.application}",
        "text": f"A copy of {package} that is rolled out by another policy.",
        "verb": "Make",
        "back": page_of(package),
        "ups": [(reverse("deployments:packages"), "Packages"), (page_of(package), package)],
    }
    return pages.render(
        request, "deployments/policy.html", context, partial="form", status=pages.status_of(form)
    )


@require_safe
@pages.page
def export(request: PageRequest, id: UUID) -> HttpResponse:
    """Download a version as a zip."""
    return cast("HttpResponse", download(_package(request, id)))


@require_POST
@pages.page
def delete(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete a version."""
    package = _package(request, id)
    packages.delete_package(request.actor, package)
    return pages.done(request, reverse("deployments:packages"), f"{package} was deleted.")


def page_of(package: Package) -> str:
    return reverse("deployments:package", kwargs={"id": package.pk})
