"""The pages of requests for access to templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Case, When
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orchestrator.web import pages
from vms import asking
from vms.access_forms import AccessRequestForm, ApproveForm, DeclineForm
from vms.models import AccessRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from django import forms

    from orchestrator.web.pages import PageRequest

form_view = require_http_methods(["GET", "HEAD", "POST"])
ANSWERED_SHOWN = 30


@pages.page
@require_safe
def request_list(request: PageRequest) -> HttpResponse:
    """Show open requests, those that the reader may answer first, and what was answered last."""
    rows = AccessRequest.objects.visible_to(request.actor).for_page()
    first = Case(When(user=request.actor.user_id, then=1), default=0)
    waiting = list(rows.open().order_by(first, "-pk")[:200])
    managed = asking.answerable(request.actor, waiting)
    of_none = request.actor.can("templates.manage")  # who may answer what is no template
    context = {
        "waiting": [
            (one, one.template_id in managed if one.template_id else of_none) for one in waiting
        ],
        "answered": rows.exclude(state=AccessRequest.State.OPEN).order_by("-answered_at")[
            :ANSWERED_SHOWN
        ],
    }
    return pages.render(request, "vms/access_requests.html", context, partial="live")


@pages.page
@form_view
def new(request: PageRequest) -> HttpResponse:
    """Ask for a template."""
    request.actor.require("vms.use")
    form = AccessRequestForm(
        pages.posted(request), initial={"template": request.GET.get("template", "")[:100]}
    )
    return _dialog(
        request,
        form,
        lambda values: asking.request_access(request.actor, **values),
        title="Ask for access",
        text="Its owner is asked. The name is taken as you write it.",
        verb="Ask",
        told="You have asked for it.",
    )


@pages.page
@form_view
def approve(request: PageRequest, id: UUID) -> HttpResponse:
    """Approve a request with level, limits and end."""
    asked = _asked(request, id)
    return _dialog(
        request,
        ApproveForm(pages.posted(request)),
        lambda values: asking.approve(request.actor, asked, **values),
        title=f"Grant {asked.name} to {asked.user}",
        text=f"They say: {asked.reason}",
        verb="Approve",
        told=f"{asked.user} may use {asked.name}.",
    )


@pages.page
@form_view
def decline(request: PageRequest, id: UUID) -> HttpResponse:
    """Decline a request, with a word."""
    asked = _asked(request, id)
    return _dialog(
        request,
        DeclineForm(pages.posted(request)),
        lambda values: asking.decline(request.actor, asked, **values),
        title=f"Decline {asked.name} to {asked.user}",
        text=f"They say: {asked.reason}",
        verb="Decline",
        told="The request was declined.",
        danger=True,
    )


@pages.page
@require_POST
def withdraw(request: PageRequest, id: UUID) -> HttpResponse:
    """Take one's own request back."""
    rows = AccessRequest.objects.visible_to(request.actor)
    asking.withdraw(request.actor, get_object_or_404(rows, pk=id))
    return pages.done(request, reverse("vms:access-requests"), "Your request was withdrawn.")


def _asked(request: PageRequest, id: UUID) -> AccessRequest:
    asked = get_object_or_404(
        AccessRequest.objects.visible_to(request.actor).for_page(),
        pk=id,
    )
    asking.require_answer(request.actor, asked)
    return asked


def _dialog(
    request: PageRequest, form: forms.Form, act: Callable[[dict[str, Any]], Any], **context: Any
) -> HttpResponse:
    return pages.dialog(
        request,
        "vms/access_request.html",
        form,
        act,
        back=reverse("vms:access-requests"),
        **context,
    )
