"""Links that let somebody set a password: made by an administrator, or mailed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from accounts.audit import audit
from accounts.escalation import refuse_acting_as
from accounts.models import User
from orchestrator.refusals import Conflict

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.actors import Actor


def reset_link(actor: Actor, user: User) -> str:
    """Return the path at which a person may set a password, once, within `LINK_HOURS`.

    It ends with the next sign-in or change of password. Raises `Forbidden`, or `Conflict` for an
    account that nobody signs in to.
    """
    actor.require("accounts.manage")
    if user.kind != User.Kind.PERSON:
        raise Conflict("A service account has tokens, not a password.")
    if not user.is_active:
        raise Conflict("This account is deactivated. Activate it first.")
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        refuse_acting_as(actor, user)
        audit(actor, "password.link_made", f"user:{user.pk}", user.username)
    key = default_token_generator.make_token(user)
    return reverse(
        "account_reset_password_from_key",
        kwargs={"uidb36": user_pk_to_url_str(user), "key": key},
    )


def absolute(request: HttpRequest, path: str) -> str:
    """Return the address of a path for people: by `PUBLIC_URL`, whatever name the request used."""
    return settings.PUBLIC_URL + path if settings.PUBLIC_URL else request.build_absolute_uri(path)
