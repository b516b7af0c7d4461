"""Asking for access to a template, and what its owner or a manager answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts.actors import SYSTEM
from accounts.audit import audit
from accounts.models import User
from events.publishing import publish
from jobs.queueing import record_done
from orchestrator.api.references import as_id, lookup
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound
from vms import access, grants
from vms.models import AccessRequest, Grant, Template, managed_by

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from accounts.actors import Actor
    from jobs.models import Job

MAXIMUM_OPEN = 20  # of one account, so that nobody tries names without end
VERBS = tuple(f"access_request.{verb}" for verb in ("approve", "decline", "withdraw"))


def request_access(actor: Actor, *, template: str, reason: str) -> AccessRequest:
    """Ask for a template by its name, or by the id of one that the actor may see.

    A name of none, or of one that the actor may not see, is taken all the same, and looks alike.
    Raises `Invalid`, `NotFound`, `Forbidden`, or `Conflict` while a request for it is open.
    """
    actor.require("vms.use")
    name, reason = template.strip(), reason.strip()
    if not 1 <= len(name) <= 100:
        raise Invalid.field("template", "Give the name of the template, at most 100 characters.")
    if not 1 <= len(reason) <= 500:
        raise Invalid.field("reason", "Say what you need it for, in at most 500 characters.")
    found = lookup(Template.objects.visible_to(actor), name)
    if found is None and as_id(name):
        raise NotFound("There is no such template.")
    if found and found.revoked_at:
        raise Conflict(access.TEMPLATE_REVOKED)
    with transaction.atomic():
        actor.take()
        actor.require("vms.use")
        assert actor.user is not None
        if AccessRequest.objects.open().filter(user=actor.user).count() >= MAXIMUM_OPEN:
            raise Forbidden(
                f"{MAXIMUM_OPEN} of your requests are open. Wait for answers, or withdraw some.",
                code="limit_reached",
            )
        asked = AccessRequest(
            name=found.name if found else name,
            template=found or Template.objects.live().filter(name__iexact=name).first(),
            user=actor.user,
            reason=reason,
        )
        try:
            with transaction.atomic():
                asked.save(force_insert=True)
        except IntegrityError:
            raise Conflict(
                "You have asked for this template already. Wait for the answer, or withdraw it.",
                code="already_asked",
            ) from None
        audit(actor, "access.requested", asked.subject, asked.name, data={"reason": reason})
        # The owner is told, who may have no other right than over their templates.
        _announce(asked, "created", owner=asked.template.owner if asked.template else None)
    return asked


def approve(
    actor: Actor,
    asked: AccessRequest,
    *,
    level: str = Grant.Level.USE,
    maximum_vms: int | None = None,
    maximum_lease_seconds: int | None = None,
    expires_at: datetime | None = None,
    answer: str = "",
) -> Job:
    """Grant what was asked for, at a level, within limits, until an end.

    Needs the right to manage the template. Raises as `grants.grant_template`, and `Conflict` when
    it was answered before, its account was deactivated or there is no such template.
    """
    template = require_answer(actor, asked)
    if template is None:
        raise Conflict(f"There is no template “{asked.name}”. Decline, and say which one is meant.")
    with transaction.atomic():
        grant = grants.grant_template(
            actor,
            template=template,
            user=asked.user,
            level=level,
            maximum_vms=maximum_vms,
            maximum_lease_seconds=maximum_lease_seconds,
            expires_at=expires_at,
        )
        if not User.objects.filter(pk=asked.user.pk, is_active=True).exists():
            raise Conflict("The account that asked was deactivated.")
        return _answer(actor, asked, "approve", "approved", answer=answer, grant=grant)


def decline(actor: Actor, asked: AccessRequest, *, answer: str) -> Job:
    """Decline, with a word to who asked. Needs the right to manage the template."""
    if not answer.strip():
        raise Invalid.field("answer", "Say why, so that they know what to do instead.")
    require_answer(actor, asked)
    with transaction.atomic():
        actor.take()
        require_answer(actor, asked)
        return _answer(actor, asked, "decline", "declined", answer=answer)


def withdraw(actor: Actor, asked: AccessRequest) -> Job:
    """Take one's own request back. Raises `Conflict` when it was answered."""
    _require_seen(actor, asked)
    if asked.user_id != actor.user_id:
        raise Forbidden("Only who asked can withdraw a request. Decline it instead.")
    actor.require_scope("vms")
    with transaction.atomic():
        actor.take()
        return _answer(actor, asked, "withdraw", "withdrawn")


def expire() -> int:
    """End the requests that nobody answered in time; return how many. Safe to run twice at once."""
    ended = 0
    for asked in AccessRequest.objects.unanswered().for_page()[:200]:
        with transaction.atomic():
            if (
                not AccessRequest.objects.unanswered()
                .filter(pk=asked.pk)
                .update(state=AccessRequest.State.EXPIRED, answered_at=Now())
            ):
                continue
            data = {"before": {"state": "open"}, "after": {"state": "expired"}}
            audit(SYSTEM, "access.expired", asked.subject, asked.name, data=data)
            _announce(asked, "expired", owner=asked.user)
            ended += 1
    return ended


def may_answer(actor: Actor, asked: AccessRequest) -> bool:
    """Return whether the actor may approve or decline."""
    if asked.template is None:
        return actor.can("templates.manage")
    return access.may_manage(actor, asked.template)


def answerable(actor: Actor, waiting: Iterable[AccessRequest]) -> set[UUID]:
    """Return the ids of the templates among what is asked for that the actor manages: one query."""
    asked = {one.template_id for one in waiting if one.template_id}
    if actor.can("templates.manage"):
        return asked
    if not actor.in_scope("templates"):
        return set()
    return set(managed_by(actor).filter(template__in=asked).values_list("template", flat=True))


def _require_seen(actor: Actor, asked: AccessRequest) -> None:
    if not AccessRequest.objects.visible_to(actor).filter(pk=asked.pk).exists():
        raise NotFound("There is no such request.")


def require_answer(actor: Actor, asked: AccessRequest) -> Template | None:
    """Return the template; raise unless the actor may answer, in words that tell nothing of it."""
    _require_seen(actor, asked)
    if not may_answer(actor, asked):
        actor.require_scope("templates")
        raise Forbidden("Only an owner or manager of the template answers this.")
    return asked.template


def _answer(
    actor: Actor,
    asked: AccessRequest,
    verb: str,
    state: str,
    *,
    answer: str = "",
    grant: Grant | None = None,
) -> Job:
    """End the request, once; in the caller's transaction."""
    answer = answer.strip()
    if len(answer) > 500:
        raise Invalid.field("answer", "Use at most 500 characters.")
    ended = AccessRequest.objects.open().filter(pk=asked.pk)
    if not ended.update(
        state=state, answer=answer, answered_by=actor.user, answered_at=Now(), grant=grant
    ):
        raise Conflict("This request was answered already.", code="answered")
    data: dict[str, Any] = {"answer": answer, "grant": str(grant.pk) if grant else None}
    audit(actor, f"access.{state}", asked.subject, asked.name, data=data)
    _announce(asked, state, owner=asked.user)
    return record_done(f"access_request.{verb}", asked.subject, actor, result=data)


def _announce(asked: AccessRequest, what: str, *, owner: User | None) -> None:
    publish(
        f"access_request.{what}",
        asked.subject,
        {"template": asked.name},
        permission="templates.view_all",
        owner_id=owner.pk if owner else None,
    )
