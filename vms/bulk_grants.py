"""Many templates granted to many subjects at once. Revoking many is a batch (`vms.bulk`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction

from accounts.audit import audit
from accounts.models import User
from jobs.queueing import record_done
from orchestrator.refusals import Conflict, Forbidden, Invalid
from vms import access, grants
from vms.models import Grant, Template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from accounts.actors import Actor
    from accounts.models import Role
    from jobs.models import Job

KIND = "grants.create"
MAXIMUM_PAIRS = 500


@dataclass(frozen=True)
class Terms:
    """At which level, within which limits, and until when."""

    level: str = Grant.Level.USE
    maximum_vms: int | None = None
    maximum_lease_seconds: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Pair:
    """One subject × template. `why_not` says why nothing is granted; empty: it is."""

    template: Template
    subject: User | Role
    why_not: str = ""

    @property
    def subject_name(self) -> str:
        return self.subject.username if isinstance(self.subject, User) else str(self.subject)


@dataclass(frozen=True)
class Preview:
    """What would be granted now, and what not. `selection` stands for exactly that."""

    pairs: list[Pair]
    selection: str

    @property
    def ready(self) -> list[Pair]:
        return [pair for pair in self.pairs if not pair.why_not]


def preview(
    actor: Actor,
    *,
    templates: Sequence[Template],
    users: Sequence[User] = (),
    roles: Sequence[Role] = (),
    terms: Terms,
) -> Preview:
    """Return what granting each template to each subject would do now; changes nothing.

    A subject that has as much already, by a grant of its own, is passed over. Raises `Invalid`.
    """
    subjects: list[User | Role] = [*users, *roles]
    if not templates:
        raise Invalid.field("templates", "Choose at least one template.")
    if not subjects:
        raise Invalid.field("users", "Choose at least one account or role.")
    if len(templates) * len(subjects) > MAXIMUM_PAIRS:
        raise Invalid(
            f"This would be {len(templates) * len(subjects)} grants; at most {MAXIMUM_PAIRS} are "
            "made at once. Choose fewer.",
            code="too_many",
        )
    held: dict[tuple[Any, Any], list[Grant]] = {}
    for grant in Grant.objects.live().filter(template__in=templates):
        held.setdefault((grant.template_id, grant.user_id or grant.role_id), []).append(grant)
    pairs = []
    for template in templates:
        refusal = _refusal(actor, template)
        for subject in subjects:
            covered = any(
                _covers(grant, terms) for grant in held.get((template.pk, subject.pk), [])
            )
            pairs.append(
                Pair(template, subject, refusal or ("It has as much already." if covered else ""))
            )
    text = "\n".join(
        sorted(f"{pair.template.pk} {pair.subject.pk} {pair.why_not}" for pair in pairs)
    )
    return Preview(pairs, hashlib.sha256(f"{terms}\n{text}".encode()).hexdigest()[:32])


def grant_many(
    actor: Actor,
    *,
    templates: Sequence[Template],
    users: Sequence[User] = (),
    roles: Sequence[Role] = (),
    terms: Terms,
    selection: str = "",
) -> Job:
    """Grant each template to each subject, all in one transaction or nothing.

    With the `selection` of a preview it is refused (`Conflict`) when something changed meanwhile.
    Pairs that are refused or covered are passed over; raises `Conflict` when nothing is left, and
    as `grants.grant_template` for terms that make no sense.
    """
    with transaction.atomic():
        actor.take()
        seen = preview(actor, templates=templates, users=users, roles=roles, terms=terms)
        if selection and selection != seen.selection:
            raise Conflict(
                "What would be granted has changed since you looked. Look again.",
                code="selection_changed",
            )
        if not seen.ready:
            raise Conflict(f"Nothing of this can be granted. {seen.pairs[0].why_not}")
        made = []
        for pair in sorted(seen.ready, key=lambda pair: pair.template.pk):  # the order of locks
            subject = pair.subject
            made.append(
                grants.grant_template(
                    actor,
                    template=pair.template,
                    user=subject if isinstance(subject, User) else None,
                    role=None if isinstance(subject, User) else subject,
                    level=terms.level,
                    maximum_vms=terms.maximum_vms,
                    maximum_lease_seconds=terms.maximum_lease_seconds,
                    expires_at=terms.expires_at,
                )
            )
        result = {
            "granted": [str(grant.pk) for grant in made],
            "passed_over": len(seen.pairs) - len(made),
        }
        audit(actor, "grants.created", "grants", "", data=result)
        return record_done(
            KIND, "grants", actor, result=result, message=f"{len(made)} grants were made."
        )


def _refusal(actor: Actor, template: Template) -> str:
    if template.revoked_at:
        return "The template was revoked."
    try:
        access.require_manage(actor, template)
    except Forbidden as refusal:
        return refusal.message
    return ""


def _covers(grant: Grant, terms: Terms) -> bool:
    """Return whether a live grant gives at least as much as `terms` would."""
    if terms.level == Grant.Level.MANAGE and grant.level != Grant.Level.MANAGE:
        return False
    limits: list[tuple[Any, Any]] = [
        (grant.maximum_vms, terms.maximum_vms),
        (grant.maximum_lease_seconds, terms.maximum_lease_seconds),
        (grant.expires_at, terms.expires_at),
    ]
    return all(has is None or (wanted is not None and has >= wanted) for has, wanted in limits)
