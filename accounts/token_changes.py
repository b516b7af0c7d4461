"""Changing what a token is narrowed to. What is taken away ends at once, as with a revocation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from django.db import transaction

from accounts import restrictions, revocation
from accounts.audit import audit, changed
from accounts.escalation import refuse_acting_as
from accounts.models import ApiToken
from accounts.permissions import SCOPES
from accounts.restrictions import Restrictions
from accounts.tokens import announce, require_manage
from orchestrator.db.locks import go_first
from orchestrator.refusals import Conflict, Forbidden

if TYPE_CHECKING:
    from accounts.actors import Actor
    from accounts.revocation import Hit


@dataclass(frozen=True)
class Limits:
    """All that narrows a token."""

    scopes: list[str]
    restrictions: Restrictions

    @classmethod
    def of(cls, token: ApiToken) -> Limits:
        return cls(token.scopes, Restrictions.of(token))

    def with_changes(self, **changes: Any) -> Limits:
        """Return these with what `changes` names, in the form in which they are kept.

        Raises `Invalid`.
        """
        scopes = self.scopes
        if "scopes" in changes:
            scopes = restrictions.checked_scopes(changes.pop("scopes"))
        if not changes:
            return replace(self, scopes=scopes)
        wanted: dict[str, Any] = asdict(self.restrictions) | changes
        return Limits(scopes, restrictions.checked(**wanted))

    def allow_more_than(self, other: Limits) -> bool:
        """Return whether anything is allowed by these and not by `other`."""
        covered = set(SCOPES) if "admin" in other.scopes else {*other.scopes, "read"}
        more = bool(set(self.scopes) - covered)
        return more or not self.restrictions.are_within(other.restrictions)

    @property
    def bounds(self) -> revocation.Bounds:
        """What the token may have queued."""
        own = self.restrictions
        return revocation.Bounds(
            vms=not {"vms", "admin"}.isdisjoint(self.scopes),
            templates=None if own.templates is None else frozenset(own.templates),
            maximum_vms=own.maximum_vms,
        )

    def as_told(self) -> dict[str, Any]:
        return {"scopes": self.scopes, **asdict(self.restrictions)}


def preview(token: ApiToken, **changes: Any) -> list[Hit]:
    """Return the VMs that such a change of `token` would hit now. Raises `Invalid`."""
    before = Limits.of(token)
    return revocation.preview(_narrowed(token, before, before.with_changes(**changes)))


def change_token(
    actor: Actor, token: ApiToken, *, running_vms: str = "keep", **changes: Any
) -> list[Hit]:
    """Change what `token` is narrowed to, and return what that reached.

    `changes` may be `scopes`, and `templates`, `networks`, `maximum_vms`, `expires_at`, of which
    None stands for no narrowing. It may become wider, but a token never allows more than its
    account, nor does the token in use hand out more than it has itself; for an account that may do
    more than the actor it may not become wider. What waits for a host and is out of bounds now is
    cancelled; `running_vms` says what becomes of VMs of templates that are out of bounds: keep,
    stop or delete. Those above a new maximum that do not wait are kept.

    Raises `NotFound`, `Forbidden`, `Invalid`, or `Conflict` for a token that has ended.
    """
    running_vms = revocation.check_choice(running_vms)
    require_manage(actor, token)
    if actor.token is not None and actor.token.pk == token.pk:
        raise Forbidden(
            "A token does not change what it may do itself. Sign in, or use another token.",
            code="token_scope",
        )
    with transaction.atomic():
        go_first()
        actor.take()
        require_manage(actor, token)  # roles may have changed before the account was taken
        locked = ApiToken.objects.select_for_update().select_related(None).get(pk=token.pk)
        if not ApiToken.objects.live().filter(pk=token.pk).exists():
            raise Conflict("This token was revoked or has expired. Make a new one.")
        before = Limits.of(locked)
        after = before.with_changes(**changes)
        if after == before:
            return []
        if after.allow_more_than(before):
            refuse_acting_as(actor, locked.user)
            restrictions.require_no_wider(actor, after.restrictions)
        _store(locked, before, after)
        hits = revocation.apply(_narrowed(locked, before, after), running_vms, actor)
        data: dict[str, Any] = changed(before.as_told(), after.as_told())
        if hits:
            data |= {"running_vms": running_vms, "hit": [str(hit) for hit in hits]}
        audit(actor, "token.changed", f"token:{locked.pk}", locked.name, data=data)
        announce(locked, "changed")
    return hits


def _store(token: ApiToken, before: Limits, after: Limits) -> None:
    values = after.as_told()
    if after.restrictions.expires_at != before.restrictions.expires_at:
        values["expiry_warned_at"] = None  # the new end is told of in its own time
    ApiToken.objects.filter(pk=token.pk).update(**values)


def _narrowed(token: ApiToken, before: Limits, after: Limits) -> revocation.Revoked:
    """Return what to reach: nothing by what was as narrow before."""
    bounds, was = after.bounds, before.bounds
    if bounds.vms or not was.vms:
        bounds = replace(bounds, vms=True)
    if bounds.templates == was.templates:
        bounds = replace(bounds, templates=None)
    if bounds.maximum_vms == was.maximum_vms:
        bounds = replace(bounds, maximum_vms=None)
    return revocation.Revoked("narrowing", token.pk, bounds=bounds)
