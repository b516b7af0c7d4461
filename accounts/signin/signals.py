"""What allauth tells only by signals: second factors and passwords that changed or were wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accounts.signin import assurance, locks, trail

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.models import User


def connect() -> None:
    from allauth.account.signals import password_changed, password_reset, password_set
    from allauth.mfa import signals as mfa

    mfa.authenticator_added.connect(_added)
    mfa.authenticator_removed.connect(_removed)
    mfa.authenticator_reset.connect(_reset)
    mfa.authentication_failed.connect(_wrong)
    password_changed.connect(_password)
    password_set.connect(_password)
    password_reset.connect(_password_reset)


def _word(authenticator: Any) -> str:
    return trail.WORDS[authenticator.type]


def _added(request: HttpRequest, user: User, authenticator: Any, **_: Any) -> None:
    if authenticator.type != "recovery_codes":
        request.session[assurance.SECOND_FACTOR] = True  # it was just used to prove that it works
        trail.note(request, "second_factor.added", user, kind=_word(authenticator))


def _removed(request: HttpRequest, user: User, authenticator: Any, **_: Any) -> None:
    if authenticator.type != "recovery_codes":
        assurance.forget_lost_factor(request, user)
        trail.note(request, "second_factor.removed", user, kind=_word(authenticator))


def _reset(request: HttpRequest, user: User, authenticator: Any, **_: Any) -> None:
    trail.note(request, "second_factor.renewed", user, kind=_word(authenticator))


def _wrong(request: HttpRequest, user: User, authenticator: Any = None, **_: Any) -> None:
    kind = _word(authenticator) if authenticator else "second factor"
    trail.note(
        request,
        "signin.refused",
        user,
        refused=True,
        known=False,
        code="wrong_second_factor",
        method=kind,
    )


def _password(request: HttpRequest, user: User, **_: Any) -> None:
    trail.note(request, "password.changed", user)


def _password_reset(request: HttpRequest, user: User, **_: Any) -> None:
    locks.forget(user)
    trail.note(request, "password.reset", user)
