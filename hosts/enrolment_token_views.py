"""The pages of enrolment tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from hosts import enrolment_tokens
from hosts.models import EnrolmentToken
from orchestrator.web import pages

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest


class EnrolmentTokenForm(forms.Form):
    """For which host, and for how long."""

    host_name = forms.CharField(label="Name of the host", max_length=100)
    minutes = forms.IntegerField(
        initial=enrolment_tokens.MINUTES,
        min_value=1,
        max_value=enrolment_tokens.MAXIMUM_MINUTES,
        help_text="How long it is good.",
    )


@pages.page
@require_safe
def token_list(request: PageRequest) -> HttpResponse:
    """List the enrolment tokens, newest first."""
    request.actor.require("hosts.manage")
    rows = EnrolmentToken.objects.visible_to(request.actor).select_related("created_by", "host")
    context = {"slice": pages.newest_first(request, rows.defer("host__password", "host__api_key"))}
    return pages.render(request, "hosts/enrolment_tokens.html", context, partial="rows")


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def new_token(request: PageRequest) -> HttpResponse:
    """Make an enrolment token. It is shown on the page that answers, and nowhere else."""
    request.actor.require("hosts.manage")
    form = EnrolmentTokenForm(pages.posted(request))
    made = pages.accepted(form, lambda v: enrolment_tokens.create(request.actor, **v))
    context = {"form": form, "made": made[0] if made else None, "secret": made[1] if made else ""}
    return pages.render(
        request, "hosts/enrolment_token.html", context, status=pages.status_of(form)
    )


@pages.page
@require_POST
def revoke_token(request: PageRequest, id: UUID) -> HttpResponse:
    """Revoke an enrolment token."""
    request.actor.require("hosts.manage")
    token = get_object_or_404(EnrolmentToken, pk=id)
    enrolment_tokens.revoke(request.actor, token)
    told = f"The token for {token.host_name} was revoked."
    return pages.done(request, reverse("hosts:enrolment-tokens"), told)
