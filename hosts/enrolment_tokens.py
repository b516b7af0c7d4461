"""Enrolment tokens: one lets one host, by its name, enrol itself once."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from accounts.actors import Actor
from accounts.audit import audit
from events.publishing import publish
from hosts import enrolment
from hosts.models import EnrolmentToken
from orchestrator.db.clock import database_now
from orchestrator.refusals import Conflict, Forbidden, Invalid

if TYPE_CHECKING:
    from hosts.models import Host

MINUTES = 15
MAXIMUM_MINUTES = 7 * 24 * 60
_BYTES = 36  # 72 characters, as the contract has it
NOT_VALID = (
    "This enrolment token is not valid: it is unknown, used, revoked or expired. "
    "Make a new one for this host."
)


def _digest(text: str) -> str:
    return salted_hmac("hosts.enrolment_tokens", text, algorithm="sha256").hexdigest()


def create(actor: Actor, *, host_name: str, minutes: int = MINUTES) -> tuple[EnrolmentToken, str]:
    """Make a token for a host of this name; return it with its clear text, which is shown once.

    It lasts `minutes`. Raises `Forbidden` without `hosts.manage`, `Invalid`.
    """
    actor.require("hosts.manage")
    host_name = enrolment.checked_name(host_name)
    if not 1 <= minutes <= MAXIMUM_MINUTES:
        raise Invalid.field("minutes", f"Give 1 to {MAXIMUM_MINUTES} minutes.")
    text = secrets.token_hex(_BYTES)
    with transaction.atomic():
        actor.take()
        actor.require("hosts.manage")
        assert actor.user is not None  # nobody makes one for the product itself
        token = EnrolmentToken.objects.create(
            host_name=host_name,
            digest=_digest(text),
            expires_at=database_now() + timedelta(minutes=minutes),
            created_by=actor.user,
            api_token=actor.token,
        )
        _tell(actor, token, "created", expires_at=token.expires_at.isoformat())
    return token, text


def revoke(actor: Actor, token: EnrolmentToken) -> EnrolmentToken:
    """Revoke a token that was not used. Twice changes nothing. Raises `Forbidden`, `Conflict`."""
    actor.require("hosts.manage")
    with transaction.atomic():
        unused = EnrolmentToken.objects.filter(pk=token.pk, used_at=None)
        revoked = unused.filter(revoked_at=None).update(revoked_at=Now())
        token.refresh_from_db()
        if revoked:
            _tell(actor, token, "revoked")
        elif token.used_at:
            raise Conflict("A host was enrolled with this token already. Remove that host instead.")
    return token


def find_live(text: str) -> EnrolmentToken | None:
    """Return the live token whose clear text this is, else None. All failures look alike."""
    if len(text) != 2 * _BYTES or not text.isascii():
        return None
    return (
        EnrolmentToken.objects.live()
        .filter(digest=_digest(text))
        .select_related("created_by", "api_token")
        .first()
    )


def enrol(
    text: str, *, name: str, address: str = "", request_id: str = "", **connection: Any
) -> Host:
    """Enrol the host called `name` with a token, by the right of the account that made it.

    Only success burns the token, in the same transaction: of two at once one enrols. Raises
    `Forbidden` for a token that is not live or is for another name, and as `enrolment.enrol`.
    """
    token = find_live(text)
    if token is None:
        raise Forbidden(NOT_VALID, code="enrolment_token")
    if token.host_name.casefold() != name.strip().casefold():
        raise Forbidden(
            "This enrolment token is for a host of another name. Make one for this name.",
            code="enrolment_token",
        )
    actor = Actor(token.created_by, token.api_token, address=address, request_id=request_id)

    def burn(host: Host) -> None:
        if not EnrolmentToken.objects.live().filter(pk=token.pk).update(used_at=Now(), host=host):
            raise Forbidden(NOT_VALID, code="enrolment_token")
        _tell(actor, token, "used", host=str(host.pk))

    return enrolment.enrol(actor, name=token.host_name, burns=burn, **connection)


def _tell(actor: Actor, token: EnrolmentToken, what: str, **data: Any) -> None:
    subject = f"enrolment_token:{token.pk}"
    audit(actor, f"enrolment_token.{what}", subject, token.host_name, data=data)
    publish(
        f"enrolment_token.{what}", subject, {"name": token.host_name}, permission="hosts.manage"
    )
