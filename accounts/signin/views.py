"""The pages of signing in that allauth does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.account import views as account
from allauth.account.adapter import get_adapter
from allauth.account.utils import get_next_redirect_url
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import invitations
from accounts.signin import assurance, first, mail, sessions, trail
from accounts.signin.forms import AcceptForm, SetupForm
from accounts.signin.middleware import where_to_prove
from orchestrator.refusals import NotFound
from orchestrator.web import pages

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest, HttpResponse

    from accounts.models import User
    from orchestrator.web.pages import PageRequest

INVITATION = "orchestrator_invitation"  # the secret, in the session instead of the address


# How sure the session is ------------------------------------------------------------------------


@pages.page
@require_safe
def second_factor(request: PageRequest) -> HttpResponse:
    """Tell who must have a second factor how to get one, or where to use it."""
    back = get_next_redirect_url(request) or "/"
    if assurance.has_second_factor(request.session):
        return HttpResponseRedirect(back)
    context = {
        "has_one": assurance.has_one(request.user),
        "prove": next(
            (
                method["url"]
                for method in get_adapter(request).get_reauthentication_methods(request.user)
                if method["id"].startswith("mfa")
            ),
            "",
        ),
        "back": back,
    }
    return pages.render(request, "account/second_factor.html", context)


@pages.page
@require_safe
def confirm(request: PageRequest) -> HttpResponse:
    """Let who has neither password nor second factor prove who they are at their provider."""
    back = get_next_redirect_url(request) or "/"
    if assurance.is_fresh(request.session):
        return HttpResponseRedirect(back)
    if (url := where_to_prove(request)) != request.path:
        return HttpResponseRedirect(url)
    linked = SocialAccount.objects.filter(user=request.user).exists()
    context = {"sso": settings.OIDC_ISSUER and linked and settings.OIDC_NAME, "back": back}
    return pages.render(request, "account/confirm.html", context)


# One's own sessions -----------------------------------------------------------------------------


@pages.page
@require_safe
def session_list(request: PageRequest) -> HttpResponse:
    """List the browsers that are signed in to one's account."""
    user: User = request.user  # type: ignore[assignment]
    context = {"sessions": sessions.sessions_of(request.actor, user, request.session.session_key)}
    return pages.render(request, "accounts/sessions.html", context)


@pages.page
@require_POST
def session_end(request: PageRequest, id: UUID) -> HttpResponse:
    """End one of one's own sessions."""
    user: User = request.user  # type: ignore[assignment]
    sessions.end_session(request.actor, user, id)
    return pages.done(request, reverse("accounts:sessions"), "That session has ended.")


@pages.page
@require_POST
def sign_out_others(request: PageRequest) -> HttpResponse:
    """End all sessions of one's own but this one."""
    user: User = request.user  # type: ignore[assignment]
    count = sessions.sign_out_everywhere(request.actor, user, request)
    text = f"Signed out everywhere else ({count} session{'' if count == 1 else 's'})."
    return pages.done(request, reverse("accounts:sessions"), text)


# For strangers ----------------------------------------------------------------------------------


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def forgotten(request: HttpRequest) -> Any:
    """Mail a link to set a new password, where mail is configured."""
    if not mail.is_configured():
        raise Http404("Mail is not configured.")
    return account.password_reset(request)


@never_cache
@sensitive_post_parameters("password", "again")
@require_http_methods(["GET", "HEAD", "POST"])
def setup(request: HttpRequest) -> HttpResponse:
    """Make the first administrator, while there is none."""
    if not first.is_wanted():
        raise Http404("There is an administrator.")
    form = SetupForm(pages.posted(request))
    if request.method == "GET":
        first.tell()

    def act(data: dict[str, Any]) -> Any:
        given = data.pop("code")
        return first.make(trail.asker(request, system=True), given, **data)

    if pages.accepted(form, act):
        messages.success(request, "The administrator is there. Sign in.")
        return HttpResponseRedirect(reverse("account_login"))
    context = {"form": form}
    return render(request, "account/setup.html", context, status=pages.status_of(form))


@never_cache
@require_safe
def follow_invitation(request: HttpRequest, secret: str) -> HttpResponse:
    """Keep the secret of an invitation in the session, so that no address shows it any longer."""
    request.session[INVITATION] = secret
    return HttpResponseRedirect(reverse("accounts:accept"))


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def accept(request: HttpRequest) -> HttpResponse:
    """Let who was invited set a password, which makes the account."""
    secret = request.session.get(INVITATION, "")
    try:
        invitation = invitations.find(secret)
    except NotFound as refusal:
        context = {"title": "You cannot come in by this", "detail": refusal.message}
        return render(request, "account/refused.html", context, status=refusal.status)
    form = AcceptForm(pages.posted(request))

    def act(data: dict[str, Any]) -> Any:
        return invitations.accept(trail.asker(request, system=True), secret, **data)

    if pages.accepted(form, act):
        del request.session[INVITATION]
        messages.success(request, f"The account “{invitation.username}” is there. Sign in.")
        return HttpResponseRedirect(reverse("account_login"))
    shown = {"form": form, "invitation": invitation}
    return render(request, "account/accept.html", shown, status=pages.status_of(form))
