"""Who asks: an account, perhaps through a token, from an address."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.db import transaction

from accounts.models import ApiToken, Role, User
from accounts.permissions import OF_ROLES, PERMISSIONS, audience
from orchestrator.db.locks import take, take_all
from orchestrator.refusals import Conflict, Forbidden

if TYPE_CHECKING:
    from uuid import UUID

# What was decided by these, before the token was taken, would be decided otherwise now.
NARROWING = ("scopes", "templates", "networks", "maximum_vms")


@dataclass
class Actor:
    """The caller of a domain function, made anew for each request: it caches nothing longer.

    `user` is None for a stranger, who may do nothing, and for the product itself (`SYSTEM`: a lease
    that ended, a sweep), which may do everything.
    """

    user: User | None
    token: ApiToken | None = None
    address: str = ""
    request_id: str = ""
    system: bool = False
    _permissions: frozenset[str] | None = field(default=None, repr=False)
    _needs_second_factor: bool = field(default=False, repr=False)
    _role_ids: frozenset[UUID] | None = field(default=None, repr=False)

    @property
    def user_id(self) -> UUID | None:
        return self.user.pk if self.user else None

    @property
    def name(self) -> str:
        return self.user.username if self.user else ("orchestrator" if self.system else "")

    @property
    def permissions(self) -> frozenset[str]:
        """Return what the account may do by its roles, narrowed by its token's scopes."""
        if self.user is None:
            return frozenset(PERMISSIONS) if self.system else frozenset()
        if self._permissions is None:
            self._permissions = self._look_at_roles(self.user)
        return self._permissions

    @property
    def needs_second_factor(self) -> bool:
        """Return whether one of the account's roles asks for a second factor."""
        _ = self.permissions  # one query tells both
        return self._needs_second_factor

    def _look_at_roles(self, user: User) -> frozenset[str]:
        granted: set[str] = set()
        self._needs_second_factor = False
        if user.is_active:
            rows = Role.objects.of(user.pk)
            found = list(rows.values_list("pk", "permissions", "requires_second_factor"))
            self._role_ids = frozenset(pk for pk, _, _ in found)
            for _, codes, asks in found:
                granted.update(codes)
                self._needs_second_factor |= asks
        return frozenset(
            code for code in granted & PERMISSIONS.keys() if self.in_scope(PERMISSIONS[code].noun)
        )

    @property
    def role_ids(self) -> frozenset[UUID]:
        """Return the ids of the account's roles."""
        if self._role_ids is None:
            mine = Role.objects.of(self.user.pk).values_list("pk", flat=True) if self.user else ()
            self._role_ids = frozenset(mine)
        return self._role_ids

    @property
    def audience(self) -> frozenset[str]:
        """Return by which rights the actor may see events; see `accounts.permissions.audience`."""
        return audience(self.permissions, self.role_ids if OF_ROLES in self.permissions else ())

    def in_scope(self, noun: str | None) -> bool:
        """Return whether the token (if any) covers writes of `noun`; None stands for a read."""
        if self.token is None or noun is None:
            return True
        return noun in self.token.scopes or "admin" in self.token.scopes

    def can(self, permission: str) -> bool:
        return permission in self.permissions

    def require(self, permission: str) -> None:
        """Raise `Forbidden` unless the actor has `permission`."""
        if self.can(permission):
            return
        noun = PERMISSIONS[permission].noun
        if not self.in_scope(noun):
            raise Forbidden(
                f"This token does not have the scope “{noun}”. Use a token that has it.",
                code="token_scope",
            )
        raise Forbidden(
            f"Your roles do not allow this ({PERMISSIONS[permission].label.lower()}). "
            "Ask an administrator for a role that does."
        )

    def require_scope(self, noun: str) -> None:
        """Raise `Forbidden` unless the token (if any) covers writes of `noun`."""
        if not self.in_scope(noun):
            raise Forbidden(
                f"This token does not have the scope “{noun}”. Use a token that has it.",
                code="token_scope",
            )

    def may_use_template(self, template_id: UUID) -> bool:
        """Return whether the token's list of templates (if any) has this one."""
        narrowed = self.token.templates if self.token else None
        return narrowed is None or str(template_id) in narrowed

    def take(self) -> None:
        """Rely on the account and its token until the transaction ends (first part of the order).

        Raises `Forbidden` when either was revoked meanwhile, and `Conflict` when what the token is
        narrowed to was changed. See `orchestrator.db.locks.take`.
        """
        if self.system:
            return
        if self.user is None:
            raise Forbidden("Sign in first.")
        assert transaction.get_connection().in_atomic_block
        if not take(User.objects.filter(pk=self.user.pk, is_active=True)):
            raise Forbidden("This account was deactivated.", code="account_inactive")
        if self.token and not self._take_token(self.token):
            raise Forbidden("This token was revoked or has expired.", code="token_revoked")
        # Roles may have changed before the account's row was taken: look again.
        self._permissions = self._role_ids = None

    def _take_token(self, token: ApiToken) -> bool:
        live = ApiToken.objects.live().filter(pk=token.pk)
        if token.maximum_vms is None:
            rows = take_all(live)
        else:
            # Whoever counts its VMs next is the only one who does so; a share could not become
            # that.
            rows = list(live.order_by().select_for_update(no_key=True))
        for row in rows:
            if any(getattr(row, name) != getattr(token, name) for name in NARROWING):
                raise Conflict(
                    "What this token may do was changed just now. Send the request again.",
                    code="token_changed",
                )
        return bool(rows)


SYSTEM = Actor(user=None, system=True)
