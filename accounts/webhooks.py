"""Who may have which webhooks. Sending is `events.webhooks`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models.functions import Now

from accounts.audit import audit, changed
from accounts.audit.webhooks import last_number
from accounts.models import Role, User
from accounts.permissions import audience
from events.models import AUDIT, Delivery, Webhook
from events.publishing import publish
from events.stream import last_sequence
from events.webhooks import addresses, delivering
from events.webhooks.signing import new_secret
from orchestrator.refusals import Conflict, Forbidden, Invalid

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from django.db.models import QuerySet

    from accounts.actors import Actor

MAXIMUM = 20  # of one account
NOUNS = (
    "vm",
    "job",
    "task",
    "step",
    "host",
    "grant",
    "access_request",
    "lease",
    "template",
    "image",
    "token",
    "user",
    "role",
    "audit",
    "package",
    "environment",
    "dictionary",
)


def visible_to(actor: Actor) -> QuerySet[Webhook]:
    """Return one's own webhooks, or everybody's with the right to see accounts."""
    if actor.can("accounts.view"):
        return Webhook.objects.all()
    return (
        Webhook.objects.filter(owner_id=actor.user_id) if actor.user_id else Webhook.objects.none()
    )


def rights(user_ids: Collection[UUID]) -> dict[UUID, frozenset[str]]:
    """Return by which rights each active account may see events now. Two queries for all."""
    active = User.objects.filter(pk__in=user_ids, is_active=True).values_list("pk", flat=True)
    granted: dict[UUID, set[str]] = defaultdict(set)
    roles: dict[UUID, set[UUID]] = defaultdict(set)
    rows = Role.objects.filter(group__user__in=user_ids)
    for user_id, role_id, codes in rows.values_list("group__user", "pk", "permissions"):
        granted[user_id].update(codes)
        roles[user_id].add(role_id)
    return {
        user_id: audience(granted[user_id], roles[user_id])
        for user_id in active
        if "webhooks.use" in granted[user_id]
    }


def create_webhook(
    actor: Actor, *, name: str, url: str, kinds: Sequence[str] = ()
) -> tuple[Webhook, str]:
    """Make a webhook of the actor's own and return it with its secret, which is shown once.

    It gets what happens from now on. Raises `Forbidden`, `Invalid`.
    """
    actor.require("webhooks.use")
    values = _checked(name=name, url=url, kinds=kinds)
    _require_audit(actor, values)
    assert actor.user is not None
    secret = new_secret()
    with transaction.atomic():
        actor.take()
        if Webhook.objects.filter(owner_id=actor.user.pk).count() >= MAXIMUM:
            raise Forbidden(
                f"An account has at most {MAXIMUM} webhooks. Delete one first.",
                code="limit_reached",
            )
        webhook = Webhook.objects.create(
            owner_id=actor.user.pk,
            secret=secret,
            cursor=last_sequence(),
            audit_cursor=last_number(),
            **values,
        )
        _tell(actor, webhook, "webhook.created", url=webhook.url, kinds=webhook.kinds)
    return webhook, secret


def change_webhook(actor: Actor, webhook: Webhook, **changes: Any) -> Webhook:
    """Change name, address or kinds. Raises `Forbidden`, `Invalid`."""
    _require_own(actor, webhook)
    values = _checked(**changes)
    if not values:
        return webhook
    begins = AUDIT in values.get("kinds", ()) and AUDIT not in webhook.kinds
    if begins:
        _require_audit(actor, values)
    with transaction.atomic():
        before = {field: getattr(webhook, field) for field in values}
        Webhook.objects.filter(pk=webhook.pk).update(**values)
        if begins:
            Webhook.objects.filter(pk=webhook.pk).update(audit_cursor=last_number())
        webhook.refresh_from_db()
        _tell(actor, webhook, "webhook.changed", **changed(before, values))
    return webhook


def pause(actor: Actor, webhook: Webhook) -> None:
    """Send nothing more. What happens meanwhile is sent after `resume`. Raises `Conflict`."""
    _require_own(actor, webhook)
    with transaction.atomic():
        paused = Webhook.objects.active().filter(pk=webhook.pk)
        if not paused.update(paused_at=Now(), paused_reason=f"Paused by {actor.name}."):
            raise Conflict("This webhook is paused already.")
        _tell(actor, webhook, "webhook.paused", **changed({"paused": False}, {"paused": True}))


def resume(actor: Actor, webhook: Webhook) -> None:
    """Send again, beginning with what happened since it was paused. Raises `Conflict`."""
    _require_own(actor, webhook)
    with transaction.atomic():
        resumed = Webhook.objects.filter(pk=webhook.pk, paused_at__isnull=False)
        if not resumed.update(paused_at=None, paused_reason=""):
            raise Conflict("This webhook is not paused.")
        _tell(actor, webhook, "webhook.resumed", **changed({"paused": True}, {"paused": False}))


def delete_webhook(actor: Actor, webhook: Webhook) -> None:
    """Delete a webhook with its deliveries."""
    _require_own(actor, webhook)
    with transaction.atomic():
        _tell(actor, webhook, "webhook.deleted", url=webhook.url)
        Webhook.objects.filter(pk=webhook.pk).delete()


def send_test(actor: Actor, webhook: Webhook) -> Delivery:
    """Send a `ping` with the next tick, also of a webhook that is paused."""
    _require_own(actor, webhook)
    with transaction.atomic():
        _tell(actor, webhook, "webhook.tested", url=webhook.url)
        return delivering.make_ping(webhook)


def redeliver(actor: Actor, delivery: Delivery) -> Delivery:
    """Send a delivery that has ended once more. Raises `Conflict` for one under way."""
    _require_own(actor, delivery.webhook)
    with transaction.atomic():
        if not delivering.again(delivery):
            raise Conflict("This delivery is under way still.")
        _tell(actor, delivery.webhook, "webhook.redelivered", delivery=str(delivery.pk))
    delivery.refresh_from_db()
    return delivery


def _require_audit(actor: Actor, values: dict[str, Any]) -> None:
    """Refuse at once what would never be sent. Each delivery asks for the right again."""
    if AUDIT in values.get("kinds", ()):
        actor.require("audit.view")


def _require_own(actor: Actor, webhook: Webhook) -> None:
    actor.require("webhooks.use")
    if webhook.owner_id != actor.user_id:
        actor.require("accounts.manage")


def _checked(
    name: str | None = None, url: str | None = None, kinds: Sequence[str] | None = None
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if name is not None:
        values["name"] = name.strip()
        if not 1 <= len(values["name"]) <= 100 or not values["name"].isprintable():
            raise Invalid.field("name", "Give it a name of one line, at most 100 characters.")
    if url is not None:
        values["url"] = addresses.checked_url(url)
        addresses.look_up(url)
    if kinds is not None:
        values["kinds"] = sorted({kind.strip() for kind in kinds} - {""})
        for kind in values["kinds"]:
            if kind.startswith(f"{AUDIT}."):
                raise Invalid.field("kinds", "The audit trail is sent whole: write “audit”.")
            if kind.partition(".")[0] not in NOUNS or len(kind) > 60 or kind.count(".") > 1:
                raise Invalid.field(
                    "kinds", f"There are no events of “{kind[:60]}”. Nouns are: {', '.join(NOUNS)}."
                )
    return values


def _tell(actor: Actor, webhook: Webhook, verb: str, **data: Any) -> None:
    subject = f"webhook:{webhook.pk}"
    audit(actor, verb, subject, webhook.name, data=data)
    publish(verb, subject, permission="accounts.view", owner_id=webhook.owner_id)
