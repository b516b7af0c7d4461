"""Accounts: made, given roles, deactivated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from accounts import revocation
from accounts.audit import audit, changed
from accounts.escalation import refuse_giving_roles
from accounts.models import ProvidedRole, Role, User
from events.publishing import publish
from orchestrator.db.locks import go_first
from orchestrator.refusals import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from accounts.actors import Actor
    from accounts.revocation import Hit

ADMINISTRATOR = "Administrator"
HEAVIEST = 100  # a role's weight in the queue


def create_user(
    actor: Actor,
    *,
    username: str,
    roles: Sequence[Role],
    email: str = "",
    password: str = "",
    kind: User.Kind = User.Kind.PERSON,
    description: str = "",
    source: str = "",
) -> User:
    """Make an account. A person without a password cannot sign in until one is set.

    Raises `Forbidden` without the permission to manage accounts, `Invalid` for a bad or taken name
    or a weak password.
    """
    actor.require("accounts.manage")
    user = User(username=username.strip(), email=email, kind=kind, description=description.strip())
    if kind == User.Kind.SERVICE and password:
        raise Invalid.field("password", "A service account has tokens, not a password.")
    try:
        if password:
            validate_password(password, user)
            user.set_password(password)
        else:
            user.set_unusable_password()
        user.full_clean(exclude=["password"])
    except ValidationError as error:
        raise from_validation(error) from None
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        refuse_giving_roles(actor, roles)
        user.save(force_insert=True)
        user.groups.set([role.group_id for role in roles])
        audit(
            actor,
            "user.created",
            f"user:{user.pk}",
            user.username,
            data={
                "kind": kind,
                "roles": [role.name for role in roles],
                **({"source": source} if source else {}),
            },
        )
        publish("user.created", f"user:{user.pk}", permission="accounts.view", owner_id=user.pk)
    return user


def set_roles(
    actor: Actor,
    user: User,
    roles: Sequence[Role],
    *,
    running_vms: str = "keep",
    source: str = "",
) -> None:
    """Give `user` exactly these roles. Roles taken away act at once, as a revocation does.

    `source` tells the audit trail what decided, when it was no person.
    """
    revocation.check_choice(running_vms)
    actor.require("accounts.manage")
    with transaction.atomic():
        go_first()
        locked = User.objects.select_for_update().get(pk=user.pk)
        before = {role.group_id: role for role in Role.objects.of(user.pk).select_related("group")}
        able = askers([locked])
        after = {role.group_id: role for role in roles}
        if before.keys() == after.keys():
            return
        refuse_giving_roles(actor, (role for pk, role in after.items() if pk not in before))
        locked.groups.set(after)
        ProvidedRole.objects.filter(user=locked).exclude(role__group__in=after).delete()
        if any(role.name == ADMINISTRATOR for pk, role in before.items() if pk not in after):
            _keep_an_administrator()
        hits = [
            hit
            for group_id, role in before.items()
            if group_id not in after
            for hit in revocation.apply(
                revocation.Revoked("membership", role.pk, user.pk), running_vms, actor
            )
        ]
        hits += revoke_lost(actor, [locked], able, running_vms)
        audit(
            actor,
            "user.roles_changed",
            f"user:{user.pk}",
            user.username,
            data=changed(
                {"roles": sorted(role.name for role in before.values())},
                {"roles": sorted(role.name for role in after.values())},
            )
            | {"hit": [str(hit) for hit in hits]}
            | ({"source": source} if source else {}),
        )
        publish("user.changed", f"user:{user.pk}", permission="accounts.view", owner_id=user.pk)


def add_role(actor: Actor, user: User, role: Role) -> None:
    """Give `user` one role more. Refusals as for `set_roles`."""
    actor.require("accounts.manage")
    with transaction.atomic():
        held = _held_roles(user)
        if role not in held:
            set_roles(actor, user, [*held, role])


def remove_role(actor: Actor, user: User, role: Role) -> None:
    """Take one role from `user`. Refusals as for `set_roles`; `NotFound` when it has it not."""
    actor.require("accounts.manage")
    with transaction.atomic():
        held = _held_roles(user)
        if role not in held:
            raise NotFound(f"{user.username} does not have the role {role.name}.")
        set_roles(actor, user, [one for one in held if one != role])


def _held_roles(user: User) -> list[Role]:
    """Return the account's roles, which stay so until the transaction ends."""
    go_first()  # before the row, as `set_roles` does
    User.objects.select_for_update().get(pk=user.pk)
    return list(Role.objects.of(user.pk).select_related("group"))


def askers(users: Sequence[User]) -> set[UUID]:
    """Return which of `users` some role lets ask for VMs."""
    rows = Role.objects.filter(group__user__in=users).values_list("group__user", "permissions")
    return {user_id for user_id, codes in rows if "vms.use" in codes}


def revoke_lost(
    actor: Actor, users: Sequence[User], able: set[UUID], running_vms: str
) -> list[Hit]:
    """Reach what `users` have by roles and permissions that were theirs before; return it.

    Of those who are `able` to ask for VMs before and cannot now, that is all that they have.
    """
    still = askers(users)
    held = held_by(users)
    hits = []
    for user in sorted(users, key=lambda one: one.pk):
        kinds = [revocation.Revoked("rights", user.pk, held=held[user.pk])]
        if user.pk in able - still:
            kinds.append(revocation.Revoked("use", user.pk))
        for kind in kinds:
            hits += revocation.apply(kind, running_vms, actor)
    return revocation.once(hits)


def held_by(users: Sequence[User], but: Role | None = None) -> dict[UUID, revocation.Held]:
    """Return what each of `users` has by its roles, `but` one of them: one query."""
    rows = Role.objects.filter(group__user__in=users)
    if but is not None:
        rows = rows.exclude(pk=but.pk)
    of: dict[UUID, list[tuple[str, list[str]]]] = {user.pk: [] for user in users}
    for user_id, name, codes in rows.values_list("group__user", "group__name", "permissions"):
        of.get(user_id, []).append((name, codes))  # the join may bring other members along
    return {pk: _held(found) for pk, found in of.items()}


def held_with(roles: Iterable[Role]) -> revocation.Held:
    """Return what somebody with exactly these roles has."""
    return _held([(role.name, role.permissions) for role in roles])


def _held(roles: Iterable[tuple[str, list[str]]]) -> revocation.Held:
    roles = list(roles)
    return revocation.Held(
        frozenset(name for name, _ in roles),
        frozenset(code for _, codes in roles for code in codes),
    )


def preview_roles(user: User, roles: Sequence[Role]) -> list[Hit]:
    """Return what giving `user` exactly these roles would hit now; `set_roles` does it."""
    kept = {role.pk for role in roles}
    lost = [role for role in Role.objects.of(user.pk) if role.pk not in kept]
    hits = [
        hit
        for role in lost
        for hit in revocation.preview(revocation.Revoked("membership", role.pk, user.pk))
    ]
    hits += revocation.preview(revocation.Revoked("rights", user.pk, held=held_with(roles)))
    if askers([user]) and not any("vms.use" in role.permissions for role in roles):
        hits += revocation.preview(revocation.Revoked("use", user.pk))
    return revocation.once(hits)


def set_active(actor: Actor, user: User, active: bool, *, running_vms: str = "keep") -> None:
    """Activate or deactivate an account. Deactivating ends its sessions and all it has queued."""
    revocation.check_choice(running_vms)
    actor.require("accounts.manage")
    if not active and user.pk == actor.user_id:
        raise Conflict("You cannot deactivate your own account. Ask another administrator.")
    with transaction.atomic():
        go_first()
        locked = User.objects.select_for_update().get(pk=user.pk)
        if locked.is_active == active:
            return
        locked.is_active = active
        if not active:
            locked.session_epoch += 1  # or its sessions would live again with the account
        locked.save(update_fields=["is_active", "session_epoch"])
        hits = []
        if not active:
            _keep_an_administrator()
            hits = revocation.apply(revocation.Revoked("user", user.pk), running_vms, actor)
        user.is_active = active
        audit(
            actor,
            "user.activated" if active else "user.deactivated",
            f"user:{user.pk}",
            user.username,
            data=changed({"active": not active}, {"active": active})
            | {"hit": [str(hit) for hit in hits]},
        )
        publish("user.changed", f"user:{user.pk}", permission="accounts.view", owner_id=user.pk)


def require_second_factor(actor: Actor, role: Role, required: bool) -> None:
    """Let in nobody who holds `role` without a second factor, or no longer ask for it.

    It counts with the next request of each member. Raises `Forbidden`.
    """
    actor.require("accounts.manage")
    with transaction.atomic():
        actor.take()
        actor.require("accounts.manage")
        Role.objects.filter(pk=role.pk).update(requires_second_factor=required)
        data = {"before": role.requires_second_factor, "after": required}
        audit(actor, "role.second_factor_set", f"role:{role.pk}", role.name, data=data)
        publish("role.changed", f"role:{role.pk}", {"name": role.name}, permission="accounts.view")


def _keep_an_administrator() -> None:
    if not User.objects.filter(
        groups__name=ADMINISTRATOR, is_active=True, kind=User.Kind.PERSON
    ).exists():
        raise Conflict("This would leave no administrator. Make somebody else one first.")


def from_validation(error: ValidationError) -> Invalid:
    """Return Django's validation error as a refusal."""
    errors = (
        error.message_dict if hasattr(error, "error_dict") else {"password": list(error.messages)}
    )
    first = next(iter(errors.values()))[0]
    return Invalid(first, errors={field: list(texts) for field, texts in errors.items()})


def set_weight(actor: Actor, role: Role, weight: int) -> None:
    """Give `role` another weight: how large its share is when roles compete for the pool.

    Raises `Forbidden`, `Invalid`.
    """
    actor.require("accounts.manage")
    if not 1 <= weight <= HEAVIEST:
        raise Invalid.field("weight", f"Give a number from 1 to {HEAVIEST}.")
    with transaction.atomic():
        actor.take()
        Role.objects.filter(pk=role.pk).update(weight=weight)
        data = changed({"weight": role.weight}, {"weight": weight})
        audit(actor, "role.weight_set", f"role:{role.pk}", role.name, data=data)
        publish("role.changed", f"role:{role.pk}", {"name": role.name}, permission="accounts.view")
