from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from accounts import details, users
from accounts.api.querysets import roles_visible_to, users_visible_to
from accounts.claiming import find_claim
from accounts.claims import SUPER_USER, WIRE_ROLES
from accounts.models import Role, User
from compat.identity.shapes import claim_out, role_out, users_out
from compat.wire.answers import answer, empty
from compat.wire.endpoints import Endpoint
from orchestrator.api.references import as_id, lookup
from orchestrator.refusals import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor

DEFAULT_ROLES = ["USER"]
_BY_ROLES = "Rights come by roles here."


def find_role(actor: Actor, reference: str) -> Role:
    """Return the role that the actor sees under an id or a name of the wire. Raises `NotFound`."""
    name = WIRE_ROLES.get(reference.upper(), reference)
    role: Role | None = lookup(roles_visible_to(actor), name, name="group__name")
    if role is None:
        raise NotFound(f"There is no role “{reference}”.")
    return role


class _Users(Endpoint):
    with_diagnostics = True

    def find(self, reference: str) -> User:
        """Return the account of an id, name or mail address. Raises `NotFound`."""
        rows = users_visible_to(self.actor).filter(is_active=True)
        user: User | None = lookup(rows, reference, name="username")
        if user is None and "@" in reference and as_id(reference) is None:
            by_mail = list(rows.filter(email__iexact=reference)[:2])
            user = by_mail[0] if len(by_mail) == 1 else None
        if user is None:
            raise NotFound(f"There is no user “{reference}”.")
        return user

    def roles(self, names: Sequence[str]) -> list[Role]:
        """Return the roles of these names. Raises `Invalid`."""
        try:
            return [find_role(self.actor, name) for name in names]
        except NotFound as refusal:
            raise Invalid.field("roles", refusal.message) from None

    def show(self, user: User, status: int = 200) -> HttpResponse:
        return answer(users_out([user])[0], status)


class Users(_Users):
    def get(self, request: HttpRequest) -> HttpResponse:
        rows = users_visible_to(self.actor).filter(is_active=True).order_by("username")
        return answer(self.filtered(users_out(list(rows))))

    def post(self, request: HttpRequest) -> HttpResponse:
        self.actor.require("accounts.manage")  # before roles are told from absent ones
        body = self.body
        if not (password := body.secret("password")):
            raise Invalid.field("password", "Invalid request body: password cannot be empty")
        names = body.texts("roles") or DEFAULT_ROLES
        if body.flag("is_super_user", "isSuperUser"):
            names = [*names, SUPER_USER]
        with transaction.atomic():
            user = users.create_user(
                self.actor,
                username=body.text("username", needed=True),
                email=body.text("email", needed=True),
                password=password,
                roles=list({role.pk: role for role in self.roles(names)}.values()),
            )
            details.change_details(self.actor, user, name=body.text("name", needed=True))
            shown = users_out([User.objects.get(pk=user.pk)])[0]
            held = {claim["name"] for claim in shown["effective_claims"]}
            if lacking := sorted({name.upper() for name in body.texts("claims")} - held):
                raise Invalid.field(
                    "claims", f"{_BY_ROLES} None of {', '.join(names)} gives {', '.join(lacking)}."
                )
        return answer(shown, 201)


class OneUser(_Users):
    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        return self.show(self.find(id))

    def put(self, request: HttpRequest, id: str) -> HttpResponse:
        self.actor.require("accounts.manage")
        body = self.body
        changes = {name: body.text(name) for name in ("name", "email") if body.has(name)}
        if body.has("password"):
            changes["password"] = body.secret("password")
        if not changes:
            raise Invalid("Invalid request body: name, email or password is needed.")
        details.change_details(self.actor, self.find(id), **changes)
        return empty()

    def delete(self, request: HttpRequest, id: str) -> HttpResponse:
        """Deactivate the account: its name stays taken, so that the audit trail stays clear."""
        self.actor.require("accounts.manage")
        users.set_active(self.actor, self.find(id), False)
        return empty()


class _UserRoles(_Users):
    def held(self, user: User) -> list[Role]:
        return list(Role.objects.of(user.pk).select_related("group").order_by("group__name"))


class UserRoles(_UserRoles):
    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        return answer([role_out(role, []) for role in self.held(self.find(id))])

    def post(self, request: HttpRequest, id: str) -> HttpResponse:
        self.actor.require("accounts.manage")
        user, name = self.find(id), self.body.text("name", needed=True)
        [role] = self.roles([name])
        users.add_role(self.actor, user, role)
        return answer({"id": str(role.pk), "name": name}, 201)


class OneUserRole(_UserRoles):
    def delete(self, request: HttpRequest, id: str, role: str) -> HttpResponse:
        self.actor.require("accounts.manage")
        users.remove_role(self.actor, self.find(id), find_role(self.actor, role))
        return empty()


class UserClaims(_Users):
    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        shown = users_out([self.find(id)])[0]
        return answer([claim_out(find_claim(one["name"])) for one in shown["effective_claims"]])

    def post(self, request: HttpRequest, id: str) -> HttpResponse:
        """Say so when the account has the claim; a claim of one's own there is not."""
        self.actor.require("accounts.manage")
        user, name = self.find(id), self.body.text("name", needed=True)
        claim = find_claim(name)
        if not _holds(user, claim.name):
            raise Invalid.field(
                "name", f"{_BY_ROLES} Give {user.username} a role that has {claim.name}."
            )
        return answer({"id": claim.name, "name": claim.name}, 201)


class OneUserClaim(_Users):
    def delete(self, request: HttpRequest, id: str, claim: str) -> HttpResponse:
        self.actor.require("accounts.manage")
        user, found = self.find(id), find_claim(claim)
        if _holds(user, found.name):
            raise Conflict(
                f"{_BY_ROLES} {user.username} has {found.name} by a role: take that away."
            )
        raise NotFound(f"{user.username} does not have {found.name}.")


def _holds(user: User, claim: str) -> bool:
    return any(one["name"] == claim for one in users_out([user])[0]["effective_claims"])
