from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from django.core.exceptions import ValidationError
from django.urls import reverse

from accounts.models import User
from accounts.signin import assurance, links, locks, mail, sessions, trail

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class AccountAdapter(DefaultAccountAdapter):
    """allauth with its doors closed: accounts are made by administrators only."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def authenticate(self, request: HttpRequest, **credentials: object) -> User | None:
        """Return the person who signs in; a service account never does."""
        user = super().authenticate(request, **credentials)
        return user if user is None or user.kind == User.Kind.PERSON else None

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Count by the account alone. allauth's own key has the server's name in it, of which
        there are several, each with tries of its own.
        """
        return locks.key_of(str(credentials.get("username") or credentials.get("email") or ""))

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Refuse who has to wait, and say for how long."""
        login = str(credentials.get("username", ""))
        try:
            super().pre_authenticate(request, **credentials)
        except ValidationError:
            self._refuse_locked(request, login)

    def _refuse_locked(self, request: HttpRequest, login: str) -> NoReturn:
        seconds = max(1, locks.wait_of(login, request))
        if locks.is_first_refusal(login, seconds):
            trail.note(
                request,
                "signin.locked",
                _named(login),
                refused=True,
                known=False,
                code="locked",
                seconds=seconds,
            )
        raise ValidationError(
            f"Too many wrong passwords. Wait {locks.in_words(seconds)}, then try again; an "
            "administrator can lift the wait.",
            code="too_many_login_attempts",
        )

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send allauth's mails as ours: beside the request, and only where mail is configured."""
        if mail.is_configured():
            mail.send(self.render_mail(template_prefix, email, {"email": email, **context}))

    def get_reset_password_from_key_url(self, key: str) -> str:
        uid, _, token = key.partition("-")
        path = reverse("account_reset_password_from_key", kwargs={"uidb36": uid, "key": token})
        return links.absolute(self.request, path)

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        user = _named(str(credentials.get("username", "")))
        code = "wrong_password" if user else "unknown_account"
        trail.note(
            request,
            "signin.refused",
            user,
            refused=True,
            known=False,
            code=code,
            method="password",
        )

    def respond_user_inactive(self, request: HttpRequest, user: Any) -> HttpResponse:
        trail.note(
            request,
            "signin.refused",
            user,
            refused=True,
            code="account_inactive",
            method=trail.method_of(request, user),
        )
        answer: HttpResponse = super().respond_user_inactive(request, user)
        return answer

    def post_login(self, request: HttpRequest, user: Any, **login: Any) -> HttpResponse:
        """Keep how the person was proven, in the session, its list and the trail."""
        social = (login.get("signal_kwargs") or {}).get("sociallogin")
        if claims := getattr(social, "claims", None):
            assurance.note_provider(request, claims)
        answer: HttpResponse = super().post_login(request, user, **login)
        method = trail.method_of(request, user)
        sessions.remember(request, user, method)
        trail.note(request, "signin.done", user, method=method)
        return answer

    def logout(self, request: HttpRequest) -> None:
        if isinstance(request.user, User):
            trail.note(request, "signin.ended", request.user)
        super().logout(request)

    def is_reauthentication_required(self, *, app: str, **_: Any) -> bool:
        """Ask before allauth's own dangerous verbs as before ours."""
        return not assurance.is_fresh(context.request.session)


def _named(login: str) -> User | None:
    return User.objects.filter(username__iexact=login.strip()).first()
