"""Writing into the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accounts.models import AuditEvent

if TYPE_CHECKING:
    from accounts.actors import Actor


def audit(
    actor: Actor,
    action: str,
    subject: str,
    name: str = "",
    *,
    data: dict[str, Any] | None = None,
    refused: bool = False,
) -> None:
    """Record that `actor` did `action` (`template.granted`) to `subject` (`template:<id>`).

    `data` holds what changed (before, after) and never a secret. A refusal is recorded after the
    rollback of the verb, in a transaction of its own.
    """
    AuditEvent.objects.create(
        action=action,
        outcome=AuditEvent.Outcome.REFUSED if refused else AuditEvent.Outcome.DONE,
        actor_id=actor.user_id,
        actor_name=actor.name,
        token_id=actor.token.pk if actor.token else None,
        token_name=actor.token.name if actor.token else "",
        address=actor.address,
        request_id=actor.request_id,
        subject=subject,
        subject_name=name,
        data=data or {},
    )
