"""Pages of who may act in a restricted environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import get_object_or_404

from deployments import granting
from deployments.forms import AccessForm, Sure
from deployments.models import EnvironmentAccess
from deployments.views.environments import changeable, page_of
from orchestrator.web import pages
from vms.views.templates import form_view

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest

DIALOG = "deployments/access.html"


@form_view
@pages.page
def give(request: PageRequest, id: UUID) -> HttpResponse:
    """Put an account or a role on the list, or change its level there."""
    environment = changeable(request, id)
    return pages.dialog(
        request,
        DIALOG,
        AccessForm(pages.posted(request)),
        lambda values: granting.give(request.actor, environment=environment, **values),
        back=page_of(environment),
        told="It is on the list.",
        environment=environment,
        title=f"Who may act in {environment}",
        verb="Give",
        text="Name a user or a role. It counts for what their roles allow anyway, and a level that "
        "somebody has already is replaced.",
    )


@form_view
@pages.page
def revoke(request: PageRequest, id: UUID, line: UUID) -> HttpResponse:
    """Take somebody off the list, after showing which tasks that holds."""
    environment = changeable(request, id)
    rows = EnvironmentAccess.objects.filter(environment=environment).for_page()
    found = get_object_or_404(rows, pk=line)
    return pages.dialog(
        request,
        DIALOG,
        Sure(pages.posted(request)),
        lambda _: granting.revoke(request.actor, found),
        back=page_of(environment),
        told=f"{found.subject_name} is off the list.",
        environment=environment,
        title=f"Take {found.subject_name} off the list",
        verb="Take off",
        danger=True,
        text=f"It acts at once: nothing of theirs starts in {environment} any more.",
        tasks=granting.impact(request.actor, found),
    )


@form_view
@pages.page
def restrict(request: PageRequest, id: UUID) -> HttpResponse:
    """Let only those on the list act, after showing which tasks that holds."""
    environment = changeable(request, id)
    return pages.dialog(
        request,
        DIALOG,
        Sure(pages.posted(request)),
        lambda _: granting.restrict(request.actor, environment),
        back=page_of(environment),
        told=f"{environment} is restricted.",
        environment=environment,
        title=f"Restrict {environment}",
        verb="Restrict",
        danger=True,
        text="Only those on its list act in it from now on, and who may act everywhere.",
        tasks=granting.restriction_impact(request.actor, environment),
    )


@form_view
@pages.page
def lift(request: PageRequest, id: UUID) -> HttpResponse:
    """Let everybody act whose roles allow it."""
    environment = changeable(request, id)
    return pages.dialog(
        request,
        DIALOG,
        Sure(pages.posted(request)),
        lambda _: granting.restrict(request.actor, environment, restricted=False),
        back=page_of(environment),
        told=f"{environment} is open.",
        environment=environment,
        title=f"Open {environment}",
        verb="Open",
        text="Everybody acts in it whose roles allow that. The list is kept for later.",
    )
