"""Dialogs of service accounts, and the drill for leaked tokens of any account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from accounts import leaks, service_accounts, users
from accounts.api.leaks import report_of
from accounts.api.querysets import users_visible_to
from accounts.forms import DescriptionForm, RunningVmsForm, ServiceAccountForm
from accounts.models import User
from orchestrator.web import pages

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest

DIALOG = "accounts/service_dialog.html"


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: PageRequest) -> HttpResponse:
    """Make a service account."""
    request.actor.require("accounts.manage")
    form = ServiceAccountForm(pages.posted(request))

    def make(data: dict[str, Any]) -> User:
        return users.create_user(request.actor, kind=User.Kind.SERVICE, **data)

    return pages.dialog(
        request,
        DIALOG,
        form,
        make,
        back=lambda user: reverse("console:service-account", args=[user.pk]),
        told="The service account is there. Make a token for it.",
        title="New service account",
        text="An account of a pipeline: it has tokens, and never signs in.",
        verb="Make account",
        cancel_url=reverse("console:service-accounts"),
    )


def _account(request: PageRequest, id: UUID) -> User:
    return get_object_or_404(users_visible_to(request.actor), pk=id, kind=User.Kind.SERVICE)


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def describe(request: PageRequest, id: UUID) -> HttpResponse:
    """Say what a service account is for."""
    request.actor.require("accounts.manage")
    account = _account(request, id)
    form = DescriptionForm(pages.posted(request), initial={"description": account.description})

    def act(data: dict[str, Any]) -> bool:
        service_accounts.describe(request.actor, account, **data)
        return True

    back = reverse("console:service-account", args=[account.pk])
    return pages.dialog(
        request,
        DIALOG,
        form,
        act,
        back=back,
        told="The description is changed.",
        title=f"Describe {account.username}",
        verb="Change it",
        cancel_url=back,
    )


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete a service account that no VM rests on."""
    request.actor.require("accounts.manage")
    account = _account(request, id)

    def act(data: dict[str, Any]) -> bool:
        service_accounts.delete(request.actor, account)
        return True

    return pages.dialog(
        request,
        DIALOG,
        forms.Form(pages.posted(request)),
        act,
        back=reverse("console:service-accounts"),
        told=f"“{account.username}” is deleted.",
        title=f"Delete {account.username}?",
        text=service_accounts.why_not_deleted(account)
        or "Its tokens, grants, quota and webhooks go with it. What it did stays in the audit.",
        verb="Delete",
        danger=True,
        cancel_url=reverse("console:service-account", args=[account.pk]),
    )


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def leaked(request: PageRequest, id: UUID) -> HttpResponse:
    """Show what the tokens of an account did and what revoking them hits; revoke them all."""
    account = get_object_or_404(users_visible_to(request.actor), pk=id)
    mine = account.pk == request.actor.user_id
    if not mine:
        request.actor.require("accounts.manage")
    form = RunningVmsForm(pages.posted(request))

    def act(data: dict[str, Any]) -> bool:
        leaks.revoke_all(request.actor, account, **data)
        return True

    if request.method == "POST" and pages.accepted(form, act):
        told = f"All tokens of “{account.username}” are revoked."
        return pages.done(request, request.path, told)
    seen = leaks.may_see_activity(request.actor, account)
    context = {
        "account": account,
        "form": form,
        "tokens": leaks.live_tokens(request.actor, account),
        "hits": leaks.preview(request.actor, account),
        "activity": leaks.activity(request.actor, account) if seen else None,
        "days": leaks.DAYS,
    }
    return pages.render(request, "accounts/leaked.html", context, status=pages.status_of(form))


@pages.page
@require_safe
def leaked_report(request: PageRequest, id: UUID) -> Any:
    """Download what the tokens of an account did."""
    account = get_object_or_404(users_visible_to(request.actor), pk=id)
    return report_of(request.actor, account)
