"""Grants: who may use a template. Given, and taken away with effect on what they allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts import revocation
from accounts.audit import audit, changed
from accounts.models import ApiToken, Role, User
from events.publishing import publish
from jobs.queueing import record_done
from orchestrator.db.locks import go_first, take
from orchestrator.refusals import Conflict, Invalid, NotFound
from vms import access
from vms.models import Grant, Template
from vms.templates import announce

if TYPE_CHECKING:
    from datetime import datetime

    from accounts.actors import Actor
    from accounts.revocation import Hit
    from jobs.models import Job


def grant_template(
    actor: Actor,
    *,
    template: Template,
    user: User | None = None,
    role: Role | None = None,
    level: str = Grant.Level.USE,
    maximum_vms: int | None = None,
    maximum_lease_seconds: int | None = None,
    expires_at: datetime | None = None,
) -> Grant:
    """Let an account or a role use `template`, within limits, until an end.

    Needs the right to manage the template. Raises `Invalid`, `Forbidden`, `NotFound`.
    """
    access.require_manage(actor, template)
    if template.of_image_id:
        raise Conflict(
            "This is the own template of an image, which says itself who may use it. Make a "
            "template of that image, and grant that."
        )
    if (user is None) == (role is None):
        raise Invalid.field("user", "Name either a user or a role.")
    if level not in Grant.Level.values:
        raise Invalid.field("level", f"Choose one of: {', '.join(Grant.Level.values)}.")
    for name, value in (
        ("maximum_vms", maximum_vms),
        ("maximum_lease_seconds", maximum_lease_seconds),
    ):
        if value is not None and not 1 <= value <= 2**31 - 1:
            raise Invalid.field(name, "Give a number of at least 1, or leave it out.")
    if expires_at and expires_at <= timezone.now():
        raise Invalid.field("expires_at", "The expiry lies in the past. Choose a later moment.")
    with transaction.atomic():
        actor.take()
        if not take(Template.objects.live().filter(pk=template.pk)):
            raise Conflict("This template was revoked; it cannot be granted.")
        access.require_manage(actor, template)
        if role and not take(Role.objects.filter(pk=role.pk)):
            raise Conflict("This role was deleted just now.")
        grant = Grant.objects.create(
            template=template,
            user=user,
            role=role,
            level=level,
            maximum_vms=maximum_vms,
            maximum_lease_seconds=maximum_lease_seconds,
            expires_at=expires_at,
            created_by=actor.user,
        )
        audit(
            actor,
            "template.granted",
            f"template:{template.pk}",
            template.name,
            data={
                "grant": str(grant.pk),
                "to": grant.subject_name,
                "level": level,
                "maximum_vms": maximum_vms,
                "maximum_lease_seconds": maximum_lease_seconds,
                "expires_at": expires_at.isoformat() if expires_at else None,
            },
        )
        _announce(grant, "grant.created")
    return grant


def impact(actor: Actor, grant: Grant) -> list[Hit]:
    """Return what revoking `grant` would hit now. Needs the right to manage its template."""
    _require(actor, grant)
    return revocation.preview(revocation.Revoked("grant", grant.pk))


def tokens_losing(actor: Actor, grant: Grant) -> list[ApiToken]:
    """Return the live tokens that may ask for the template now and could not once it is revoked.

    Those of an account that keeps another live grant for it lose nothing.
    """
    _require(actor, grant)
    others = Grant.objects.live().filter(template=grant.template_id).exclude(pk=grant.pk)
    keeping = User.objects.filter(Q(grants__in=others) | Q(groups__role__grants__in=others))
    losing = User.objects.filter(
        Q(pk=grant.user_id) if grant.user_id else Q(groups__role=grant.role_id)
    ).exclude(pk__in=keeping.values("pk"))
    tokens = ApiToken.objects.live().filter(user__in=losing).select_related("user")
    return [
        token
        for token in tokens.order_by("user__username", "name")
        if {"vms", "admin"} & set(token.scopes)
        and (token.templates is None or str(grant.template_id) in token.templates)
    ]


def revoke_grant(actor: Actor, grant: Grant, *, running_vms: str = "keep") -> Job:
    """Revoke `grant`: the next request is refused, queued work is cancelled.

    VMs that exist are kept, stopped or deleted as `running_vms` says. Revoking twice hits nothing
    more. Each VM asked for meanwhile is either refused or hit.
    """
    running_vms = revocation.check_choice(running_vms)
    _require(actor, grant)
    with transaction.atomic():
        go_first()
        locked = Grant.objects.select_for_update().get(pk=grant.pk)
        hits: list[Hit] = []
        if not locked.revoked_at:
            Grant.objects.filter(pk=grant.pk).update(revoked_at=Now())
            hits = revocation.apply(revocation.Revoked("grant", grant.pk), running_vms, actor)
        data = {"running_vms": running_vms, "hit": [str(hit) for hit in hits]}
        change = changed({"revoked": bool(locked.revoked_at)}, {"revoked": True})
        audit(actor, "grant.revoked", f"grant:{grant.pk}", str(grant), data=change | data)
        _announce(grant, "grant.revoked")
        return record_done("grant.revoke", f"grant:{grant.pk}", actor, result=data)


def _require(actor: Actor, grant: Grant) -> None:
    if not Grant.objects.visible_to(actor).filter(pk=grant.pk).exists():
        raise NotFound("There is no such grant.")
    access.require_manage(actor, grant.template)


def _announce(grant: Grant, kind: str) -> None:
    publish(
        kind,
        f"grant:{grant.pk}",
        {"template": str(grant.template_id)},
        permission="templates.view_all",
        owner_id=grant.user_id,
    )
    announce(grant.template)
