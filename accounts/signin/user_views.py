"""What an administrator does about how others sign in: sessions, waits, links, invitations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import invitations
from accounts.api.querysets import users_visible_to
from accounts.models import Invitation, User
from accounts.signin import factors, links, locks, mail, sessions
from accounts.signin.forms import InvitationForm
from orchestrator.web import pages

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest

form_view = require_http_methods(["GET", "HEAD", "POST"])


def _user(request: PageRequest, id: UUID) -> User:
    return get_object_or_404(users_visible_to(request.actor), pk=id)


@pages.page
@form_view
def sign_out(request: PageRequest, id: UUID) -> HttpResponse:
    """End all sessions of an account."""
    request.actor.require("accounts.manage")
    user = _user(request, id)
    mine = user.pk == request.actor.user_id

    def act(_: dict[str, Any]) -> bool:
        sessions.sign_out_everywhere(request.actor, user, request if mine else None)
        return True

    return pages.dialog(
        request,
        "accounts/confirm.html",
        forms.Form(pages.posted(request)),
        act,
        back=reverse("accounts:user", args=[user.pk]),
        told=f"“{user.username}” is signed out everywhere.",
        heading=f"Sign {user.username} out everywhere?",
        explanation="Every browser has to sign in again, and what it shows live stops within two "
        "seconds. Tokens go on.",
        verb="Sign out everywhere",
    )


@pages.page
@require_POST
def unlock(request: PageRequest, id: UUID) -> HttpResponse:
    """Let an account be tried again at once."""
    user = _user(request, id)
    locks.lift(request.actor, user)
    url = reverse("accounts:user", args=[user.pk])
    return pages.done(request, url, f"“{user.username}” may try again.")


@pages.page
@form_view
def remove_factors(request: PageRequest, id: UUID) -> HttpResponse:
    """Remove the second factors of somebody who lost them."""
    request.actor.require("accounts.manage")
    user = _user(request, id)

    def act(_: dict[str, Any]) -> bool:
        factors.remove_all(request.actor, user)
        return True

    return pages.dialog(
        request,
        "accounts/confirm.html",
        forms.Form(pages.posted(request)),
        act,
        back=reverse("accounts:user", args=[user.pk]),
        told=f"“{user.username}” has no second factor any more.",
        heading=f"Remove the second factors of {user.username}?",
        explanation="For somebody who lost them: make sure that it is they who ask. Their sessions "
        "end, and a password alone lets them in until they set up new ones.",
        verb="Remove them",
    )


@pages.page
@form_view
def reset_password(request: PageRequest, id: UUID) -> HttpResponse:
    """Make a link with which a person sets a new password."""
    request.actor.require("accounts.manage")
    user = _user(request, id)
    form = forms.Form(pages.posted(request))
    back = reverse("accounts:user", args=[user.pk])
    path = pages.accepted(form, lambda _: links.reset_link(request.actor, user))
    if path:
        return _show(request, f"A link for {user.username}", links.absolute(request, path), back)
    context = {
        "form": form,
        "heading": f"Let {user.username} set a new password?",
        "explanation": "You get a link to give to them. Until it is used the old password works; "
        "then all their sessions end.",
        "verb": "Make a link",
        "harmless": True,
        "full_page": True,
        "back": back,
    }
    return pages.render(
        request, "accounts/confirm.html", context, partial="form", status=pages.status_of(form)
    )


# Invitations ------------------------------------------------------------------------------------


@pages.page
@require_safe
def invitation_list(request: PageRequest) -> HttpResponse:
    """List invitations."""
    request.actor.require("accounts.view")
    rows = (
        Invitation.objects.visible_to(request.actor)
        .select_related("invited_by", "account")
        .prefetch_related("roles__group")
    )
    live = set(Invitation.objects.live().values_list("pk", flat=True))
    context = {"slice": pages.newest_first(request, rows), "live": live}
    return pages.render(request, "accounts/invitations.html", context, partial="rows")


@pages.page
@form_view
def invite(request: PageRequest) -> HttpResponse:
    """Invite somebody, and show the link."""
    request.actor.require("accounts.manage")
    form = InvitationForm(pages.posted(request))
    made = pages.accepted(form, lambda data: invitations.invite(request.actor, **data))
    if made:
        return _invited(request, *made)
    context = {
        "form": form,
        "heading": "Invite somebody",
        "explanation": "They set their password themselves. You get a link to give to them"
        + (", and it is mailed if you give an address." if mail.is_configured() else "."),
        "verb": "Invite",
        "harmless": True,
        "full_page": True,
        "back": reverse("accounts:invitations"),
    }
    return pages.render(
        request, "accounts/confirm.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@require_POST
def invitation_resend(request: PageRequest, id: UUID) -> HttpResponse:
    """Give an invitation a new link."""
    invitation = get_object_or_404(Invitation.objects.visible_to(request.actor), pk=id)
    return _invited(request, invitation, invitations.resend(request.actor, invitation))


@pages.page
@require_POST
def invitation_revoke(request: PageRequest, id: UUID) -> HttpResponse:
    """Revoke an invitation."""
    invitation = get_object_or_404(Invitation.objects.visible_to(request.actor), pk=id)
    invitations.revoke(request.actor, invitation)
    text = f"The invitation of “{invitation.username}” is revoked."
    return pages.done(request, reverse("accounts:invitations"), text)


def _invited(request: PageRequest, invitation: Invitation, secret: str) -> HttpResponse:
    url = links.absolute(request, invitations.path_of(secret))
    mail.write_invitation(invitation, url)
    back = reverse("accounts:invitations")
    return _show(request, f"{invitation.username} is invited", url, back, invitation.email)


def _show(
    request: PageRequest, heading: str, link: str, back: str, mailed: str = ""
) -> HttpResponse:
    context = {
        "heading": heading,
        "link": link,
        "hours": settings.LINK_HOURS,
        "back": back,
        "mailed": mailed if mail.is_configured() else "",
    }
    return pages.render(request, "accounts/link.html", context)
