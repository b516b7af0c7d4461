"""Writing into the audit trail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.serializers.json import DjangoJSONEncoder

from accounts.models import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    `data` holds what was done and what changed (see `changed`), and never a secret. A refusal is
    recorded after the rollback of the verb, in a transaction of its own.
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


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a change: what is different, as it was and as it is.

    Values are as JSON has them, or moments and ids, which become text.
    """
    was, now = _plain(before), _plain(after)
    names = [name for name in now if name not in was or was[name] != now[name]]
    return {
        "before": {name: was[name] for name in names if name in was},
        "after": {name: now[name] for name in names},
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), cls=DjangoJSONEncoder))
    return plain
