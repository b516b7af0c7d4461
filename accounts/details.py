"""An account's name, mail address and password, changed by who manages accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from accounts.audit import audit
from accounts.escalation import refuse_acting_as
from accounts.models import User
from accounts.users import from_validation
from events.publishing import publish
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from accounts.actors import Actor


def change_details(
    actor: Actor,
    user: User,
    *,
    name: str | None = None,
    email: str | None = None,
    password: str | None = None,
) -> None:
    """Change what is given. A new password ends the account's sessions and access tokens.

    Raises `Forbidden`, also for the mail address or password of somebody who may do more than the
    actor (both let in), and `Invalid` for a bad value or a weak password.
    """
    actor.require("accounts.manage")
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        locked = User.objects.select_for_update().get(pk=user.pk)
        if email is not None or password is not None:
            refuse_acting_as(actor, locked)
        changed = {}
        if name is not None and name != locked.get_full_name():
            locked.first_name, locked.last_name = name, ""
            changed["name"] = name
        if email is not None and email != locked.email:
            locked.email = email
            changed["email"] = email
        try:
            if password is not None:
                _set_password(locked, password)
                changed["password"] = "set"
            locked.full_clean(exclude=["password"])
        except ValidationError as error:
            raise from_validation(error) from None
        if not changed:
            return
        locked.save(update_fields=["first_name", "last_name", "email", "password"])
        audit(actor, "user.details_changed", f"user:{user.pk}", user.username, data=changed)
        publish("user.changed", f"user:{user.pk}", permission="accounts.view", owner_id=user.pk)


def _set_password(user: User, password: str) -> None:
    if user.kind == User.Kind.SERVICE:
        raise Conflict("A service account has tokens, not a password.")
    if not password:
        raise Invalid.field("password", "Give a password.")
    validate_password(password, user)
    user.set_password(password)
