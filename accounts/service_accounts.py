"""Service accounts: accounts of pipelines, which have tokens and never sign in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from accounts import revocation
from accounts.audit import audit
from accounts.models import User
from events.models import Webhook
from events.publishing import publish
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from accounts.actors import Actor

LONGEST_DESCRIPTION = 200


def describe(actor: Actor, account: User, description: str) -> None:
    """Say what an account is for. Raises `Forbidden`, `Invalid`."""
    actor.require("accounts.manage")
    description = description.strip()
    if len(description) > LONGEST_DESCRIPTION:
        raise Invalid.field("description", f"Use at most {LONGEST_DESCRIPTION} characters.")
    with transaction.atomic():
        actor.take()
        before = User.objects.select_for_update().get(pk=account.pk).description
        if before == description:
            return
        User.objects.filter(pk=account.pk).update(description=description)
        data = {"before": before, "after": description}
        audit(actor, "user.described", f"user:{account.pk}", account.username, data=data)
        _publish(account, "changed")
    account.description = description


def delete(actor: Actor, account: User) -> None:
    """Delete a service account with its tokens, grants, quota and webhooks.

    What it did stays in the audit trail. Raises `Forbidden`, or `Conflict` for a person, and while
    VMs rest on the account.
    """
    actor.require("accounts.manage")
    if account.kind != User.Kind.SERVICE:
        raise Conflict("Accounts of people are deactivated, not deleted.")
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        # Whoever asks for a VM takes this row first: it is in the list below, or is refused.
        locked = User.objects.select_for_update().get(pk=account.pk)
        if why_not := why_not_deleted(locked):
            raise Conflict(why_not, code="has_vms")
        Webhook.objects.filter(owner_id=locked.pk).delete()
        data = {"tokens": [token.name for token in locked.tokens.order_by("pk")]}
        audit(actor, "user.deleted", f"user:{account.pk}", account.username, data=data)
        _publish(account, "deleted")
        User.objects.filter(pk=account.pk).delete()


def why_not_deleted(account: User) -> str:
    """Return why `account` cannot be deleted now; empty when it can."""
    hits = revocation.preview(revocation.Revoked("user", account.pk))
    if not hits:
        return ""
    named = ", ".join(hit.name for hit in hits[:5]) + (", …" if len(hits) > 5 else "")
    return (
        f"{len(hits)} of its VMs and tasks exist or wait: {named}. End them first, or deactivate "
        "the account, which can stop or delete its VMs."
    )


def _publish(account: User, what: str) -> None:
    publish(f"user.{what}", f"user:{account.pk}", permission="accounts.view", owner_id=account.pk)
