"""Users, roles, claims and keys as they go out."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from accounts.claims import CLAIMS, SUPER_USER, Claim, claims_with, is_super_user, shown_role
from accounts.models import ApiToken, Preference, Role, User
from compat.wire.answers import compact, rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence


def users_out(users: Sequence[User]) -> list[dict[str, Any]]:
    """Return accounts, with one query for the roles of all."""
    roles: dict[Any, list[Role]] = defaultdict(list)
    held = (
        Role.objects.filter(group__user__in=users).select_related("group").order_by("group__name")
    )
    by_group: dict[int, list[Any]] = defaultdict(list)
    for user_id, group_id in User.groups.through.objects.filter(user__in=users).values_list(
        "user_id", "group_id"
    ):
        by_group[group_id].append(user_id)
    for role in held.distinct():
        for user_id in by_group[role.group_id]:
            roles[user_id].append(role)
    return [_user(user, roles[user.pk]) for user in users]


def _user(user: User, roles: list[Role]) -> dict[str, Any]:
    permissions = frozenset(code for role in roles for code in role.permissions)
    names = [shown_role(role) for role in roles]
    everything = is_super_user(permissions)
    if everything and SUPER_USER not in names:
        names.append(SUPER_USER)
    return {
        "id": str(user.pk),
        "username": user.username,
        "name": user.get_full_name() or user.username,
        "email": user.email or user.username,
        "roles": names,
        "claims": [],  # rights come by roles alone
        "effective_claims": [
            compact(
                {
                    "id": name,
                    "name": name,
                    "is_inherited": True,
                    "source_role": _source(CLAIMS[name], roles),
                }
            )
            for name in claims_with(permissions)
        ],
        "isSuperUser": everything,
    }


def _source(claim: Claim, roles: list[Role]) -> str:
    """Return the name of the first role that gives a claim; "" for what every account has."""
    givers = (
        role for role in roles if not claim.free and claim.held_with(frozenset(role.permissions))
    )
    return next((shown_role(role) for role in givers), "")


def claim_out(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.name,
        "name": claim.name,
        "description": claim.name.replace("_", " ").capitalize(),
        "internal": True,
        "group": claim.group,
        "resource": claim.resource,
        "action": claim.action,
    }


def role_out(role: Role, users: list[dict[str, Any]]) -> dict[str, Any]:
    permissions = frozenset(role.permissions)
    return {
        "id": str(role.pk),
        "name": shown_role(role),
        "internal": role.shipped,
        "claims": [claim_out(CLAIMS[name]) for name in claims_with(permissions)],
        "users": users,
    }


def key_out(token: ApiToken, encoded: str = "") -> dict[str, Any]:
    """Return a key pair; `encoded` is what a client sends, known only when it is made."""
    return compact(
        {
            "id": str(token.pk),
            "name": token.name,
            "key": token.key,
            "encoded": encoded,
            "expires_at": rfc3339(token.expires_at),
            "user_id": str(token.user_id),
            "user_email": token.user.email or token.user.username,
            "user_name": token.user.get_full_name() or token.user.username,
            "user_username": token.user.username,
        }
    )


def preference_out(row: Preference) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "user_id": str(row.user_id),
        "slug": row.slug,
        "name": row.name,
        "type": row.kind,
        "value": row.value,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }
