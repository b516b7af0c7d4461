"""Quotas: how much an account, or those on a role's share, may have placed at once.

They are no refusal: who is at a limit waits in the queue until something of theirs ends, or, where
borrowing is allowed, until nobody within their quota wants the room.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import Count, Q, Sum

from accounts.audit import audit, changed
from events.publishing import publish
from jobs import bell
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound
from vms.lifecycle import PLACER
from vms.models import Quota, VirtualMachine
from vms.models.queueing import LIMITS

if TYPE_CHECKING:
    from uuid import UUID

    from accounts.actors import Actor
    from accounts.models import Role, User

LARGEST = 2**31 - 1
Amounts = dict[str, int]  # by the names of LIMITS


class Standing(IntEnum):
    """How a request stands to the quotas that bind it, the worst of them."""

    WITHIN = 0
    BORROWS = 1
    OVER = 2


def set_quota(
    actor: Actor,
    *,
    user: User | None = None,
    role: Role | None = None,
    maximum_vms: int | None = None,
    maximum_cpus: int | None = None,
    maximum_memory_mib: int | None = None,
    borrow: bool = False,
) -> Quota:
    """Give one account or one role a quota; what is None has no limit.

    Nothing that runs is ended by it. Raises `Forbidden`, `Invalid`, or `Conflict` when the subject
    has a quota already.
    """
    actor.require("accounts.manage")
    if (user is None) == (role is None):
        raise Invalid.field("user", "Name either a user or a role.")
    limits = _checked(
        maximum_vms=maximum_vms, maximum_cpus=maximum_cpus, maximum_memory_mib=maximum_memory_mib
    )
    quota = Quota(user=user, role=role, borrow=borrow, **limits)
    with transaction.atomic():
        actor.take()
        try:
            with transaction.atomic():
                quota.save(force_insert=True)
        except IntegrityError:
            raise Conflict(
                f"{quota.subject_name} has a quota already. Change that one.", code="quota_exists"
            ) from None
        _tell(actor, "quota.set", quota, after=_limits(quota))
    return quota


def change_quota(actor: Actor, quota: Quota, **changes: Any) -> Quota:
    """Change limits or borrowing of `quota`. Raises `Forbidden`, `Invalid`, `NotFound`."""
    actor.require("accounts.manage")
    with transaction.atomic():
        actor.take()
        fresh = Quota.objects.select_for_update().filter(pk=quota.pk).first()
        if fresh is None:
            raise NotFound("There is no such quota.")
        before = _limits(fresh)
        wanted = {name: changes.get(name, getattr(fresh, name)) for name in LIMITS}
        for name, value in _checked(**wanted).items():
            setattr(fresh, name, value)
        fresh.borrow = changes.get("borrow", fresh.borrow)
        fresh.save()
        _tell(actor, "quota.changed", fresh, **changed(before, _limits(fresh)))
    return fresh


def remove_quota(actor: Actor, quota: Quota) -> None:
    """Take a quota away: its subject is limited no more. Raises `Forbidden`."""
    actor.require("accounts.manage")
    with transaction.atomic():
        actor.take()
        _tell(actor, "quota.removed", quota, before=_limits(quota))
        Quota.objects.filter(pk=quota.pk).delete()


def _checked(**limits: int | None) -> dict[str, int | None]:
    for name, value in limits.items():
        if value is not None and not 0 <= value <= LARGEST:
            raise Invalid.field(name, f"Give a number from 0 to {LARGEST}, or nothing.")
    if all(value is None for value in limits.values()):
        raise Invalid("A quota without any limit limits nothing. Give at least one.")
    return limits


def _limits(quota: Quota) -> dict[str, Any]:
    return {name: getattr(quota, name) for name in (*LIMITS, "borrow")}


def _tell(actor: Actor, action: str, quota: Quota, **data: dict[str, Any]) -> None:
    audit(actor, action, f"quota:{quota.pk}", quota.subject_name, data=data)
    publish("queue.changed", "queue", {}, permission="vms.view_all")
    bell.ring_tick(PLACER)  # somebody may be within their quota now


def amounts_of(vm: VirtualMachine) -> Amounts:
    """Return what `vm` counts for."""
    return {"maximum_vms": 1, "maximum_cpus": vm.cpus, "maximum_memory_mib": vm.memory_mib}


def used_by(**subject: Any) -> Amounts:
    """Return what the placed VMs of a subject (`requested_by` or `share`) count for in all."""
    found = (
        VirtualMachine.objects.placed()
        .filter(**subject)
        .aggregate(
            maximum_vms=Count("pk"), maximum_cpus=Sum("cpus"), maximum_memory_mib=Sum("memory_mib")
        )
    )
    return {name: found[name] or 0 for name in LIMITS}


def used_of(quota: Quota) -> Amounts:
    """Return what counts against `quota` now."""
    return used_by(requested_by=quota.user) if quota.user_id else used_by(share=quota.role)


@dataclass
class Book:
    """All quotas and what counts against them, for one pass of the placer."""

    quotas: dict[UUID, Quota] = field(default_factory=dict)  # by account or role
    used: dict[UUID, Amounts] = field(default_factory=dict)

    @classmethod
    def opened(cls) -> Book:
        """Return the book as things are now: one query, and two more if there is a quota."""
        book = cls()
        for quota in Quota.objects.for_page():
            subject = quota.user_id or quota.role_id
            assert subject
            book.quotas[subject] = quota
        if not book.quotas:
            return book
        book.used = {subject: dict.fromkeys(LIMITS, 0) for subject in book.quotas}
        for field_name in ("requested_by", "share"):
            placed = VirtualMachine.objects.placed().filter(**{f"{field_name}__in": book.quotas})
            totals = placed.order_by().values_list(field_name)
            for subject, *amounts in totals.annotate(Count("pk"), Sum("cpus"), Sum("memory_mib")):
                book.used[subject] = dict(zip(LIMITS, amounts, strict=True))
        return book

    def standing(self, vm: VirtualMachine) -> tuple[Standing, str]:
        """Return how `vm` stands to its quotas, and the limit that binds it in words."""
        worst, words = Standing.WITHIN, ""
        for subject in (vm.requested_by_id, vm.share_id):
            if subject is None or not (quota := self.quotas.get(subject)):
                continue
            if reached := _reached(quota, self.used[subject], amounts_of(vm)):
                standing = Standing.BORROWS if quota.borrow else Standing.OVER
                if standing > worst:
                    worst, words = standing, reached
        return worst, words

    def count(self, vm: VirtualMachine) -> None:
        """Note that `vm` was placed in this pass."""
        for subject in (vm.requested_by_id, vm.share_id):
            if subject in self.quotas:
                used = self.used[subject]
                for name, amount in amounts_of(vm).items():
                    used[name] += amount


def _reached(quota: Quota, used: Amounts, wanted: Amounts) -> str:
    """Return the limit that `wanted` would go over, in words; empty when it fits."""
    for name, what in LIMITS.items():
        limit = getattr(quota, name)
        if limit is not None and wanted[name] and used[name] + wanted[name] > limit:
            whose = f"the role {quota.role}" if quota.role else f"{quota.user}"
            return f"{whose} uses {used[name]} of {limit} {what}"
    return ""


def take(vm: VirtualMachine) -> bool:
    """Rely on the quotas of `vm` until the transaction ends; return False when one is reached.

    Locks their rows, so that of two placers at once none goes over; `borrow` is no limit here.
    """
    return not _over(vm, amounts_of(vm))


def require_growth(vm: VirtualMachine, more: Amounts) -> None:
    """Raise `Forbidden` when a placed VM would grow over a quota that does not borrow."""
    if reached := _over(vm, more):
        raise Forbidden(
            f"This is more than the quota allows: {reached}. Ask for less, or end another VM.",
            code="limit_reached",
        )


def _over(vm: VirtualMachine, wanted: Amounts) -> str:
    # `=None` would mean every quota of the other kind: a VM may have no asker, or no share.
    users = [vm.requested_by_id] if vm.requested_by_id else []
    roles = [vm.share_id] if vm.share_id else []
    binding = Quota.objects.filter(Q(user__in=users) | Q(role__in=roles), borrow=False)
    for quota in binding.select_for_update(of=("self",)).for_page().order_by("pk"):
        if reached := _reached(quota, used_of(quota), wanted):
            return reached
    return ""
