"""`publish()`: say what happened, in the transaction in which it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from events.models import Event

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID


def publish(
    kind: str,
    subject: str,
    data: dict[str, Any] | None = None,
    *,
    permission: str,
    scope: str = "",
    owner_id: UUID | None = None,
) -> None:
    """Store the event `kind` of `subject` (`vm:<id>`) in the caller's transaction.

    Those who have `permission`, or what `scope` says (`accounts.permissions.scoped`), and the
    account `owner_id`, may see it. It reaches listeners once the sealer has numbered it.
    """
    event_of(kind, subject, data, permission=permission, scope=scope, owner_id=owner_id).save(
        force_insert=True
    )


def publish_once(
    kind: str,
    subject: str,
    data: dict[str, Any] | None = None,
    *,
    permission: str,
    owner_id: UUID | None = None,
) -> bool:
    """Publish what happens often; not while an event that says the same has yet to be numbered.

    What it tells of has to be committed before: whoever hears of the earlier event then finds it.
    So there is at most one in each round of the sealer. Returns whether it was published.
    """
    waiting = Event.objects.filter(sequence__isnull=True, subject=subject, kind=kind)
    if waiting.exists():
        return False
    publish(kind, subject, data, permission=permission, owner_id=owner_id)
    return True


def event_of(
    kind: str,
    subject: str,
    data: dict[str, Any] | None = None,
    *,
    permission: str,
    scope: str = "",
    owner_id: UUID | None = None,
) -> Event:
    """Return the event for `publish_all`; see `publish`."""
    return Event(
        kind=kind,
        subject=subject,
        data=data or {},
        permission=permission,
        scope=scope,
        owner_id=owner_id,
    )


def publish_all(events: Iterable[Event]) -> None:
    """Store many events at once in the caller's transaction."""
    Event.objects.bulk_create(events, batch_size=500)
