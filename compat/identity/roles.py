from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from accounts import claiming, custom_roles
from accounts.api.querysets import roles_visible_to, users_visible_to
from accounts.claims import CLAIMS, Claim
from compat.identity.shapes import claim_out, role_out, users_out
from compat.identity.users import find_role
from compat.wire.answers import answer, empty
from compat.wire.endpoints import Endpoint
from compat.wire.errors import NotOffered
from orchestrator.refusals import Conflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest, HttpResponse

    from accounts.models import Role

FIXED = "Claims are fixed: each stands for a permission of this product. Make a role that has some."


class _Roles(Endpoint):
    with_diagnostics = True

    def shown(self, roles: Sequence[Role]) -> list[dict[str, Any]]:
        """Return roles with those of their members that the actor sees."""
        rows = users_visible_to(self.actor).filter(is_active=True)
        members = list(
            rows.filter(groups__role__in=roles).order_by("username").values_list("pk", "groups")
        )
        people = {
            one["id"]: one for one in users_out(list(rows.filter(pk__in=[pk for pk, _ in members])))
        }
        return [
            role_out(role, [people[str(pk)] for pk, group in members if group == role.group_id])
            for role in roles
        ]


class Roles(_Roles):
    def get(self, request: HttpRequest) -> HttpResponse:
        rows = roles_visible_to(self.actor).order_by("group__name").distinct()
        return answer(self.filtered(self.shown(list(rows))))

    def post(self, request: HttpRequest) -> HttpResponse:
        role = claiming.create_role(
            self.actor,
            name=self.body.text("name", needed=True),
            claims=self.body.texts("claims"),
        )
        return answer(self.shown([role])[0], 201)


class OneRole(_Roles):
    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        return answer(self.shown([find_role(self.actor, id)])[0])

    def delete(self, request: HttpRequest, id: str) -> HttpResponse:
        self.actor.require("accounts.manage")
        custom_roles.delete_role(self.actor, find_role(self.actor, id))
        return empty()


class RoleClaims(_Roles):
    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        return answer(role_out(find_role(self.actor, id), [])["claims"])

    def post(self, request: HttpRequest, id: str) -> HttpResponse:
        self.actor.require("accounts.manage")
        role = find_role(self.actor, id)
        claim = claiming.give_claim(self.actor, role, self.body.text("name", needed=True))
        return answer(claim_out(claim), 201)


class OneRoleClaim(_Roles):
    def delete(self, request: HttpRequest, id: str, claim: str) -> HttpResponse:
        self.actor.require("accounts.manage")
        claiming.take_claim(self.actor, find_role(self.actor, id), claim)
        return empty()


class _Claims(Endpoint):
    with_diagnostics = True


class Claims(_Claims):
    def get(self, request: HttpRequest) -> HttpResponse:
        return answer(self.filtered(claim_out(claim) for claim in CLAIMS.values()))

    def post(self, request: HttpRequest) -> HttpResponse:
        self.actor.require("accounts.manage")
        name = self.body.text("name", needed=True)
        if name.upper() in CLAIMS:
            raise Conflict(f"The claim {name.upper()} exists already.")
        raise NotOffered(f"There is no claim “{name}”. {FIXED}")


class GroupedClaims(_Claims):
    def get(self, request: HttpRequest) -> HttpResponse:
        def place(claim: Claim) -> tuple[str, str]:
            return claim.group, claim.resource

        resources = [
            (group, {"resource": resource, "claims": [claim_out(claim) for claim in claims]})
            for (group, resource), claims in groupby(sorted(CLAIMS.values(), key=place), key=place)
        ]
        return answer(
            [
                {"group": group, "resources": [resource for _, resource in inner]}
                for group, inner in groupby(resources, key=lambda pair: pair[0])
            ]
        )


class OneClaim(_Claims):
    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        return answer(claim_out(claiming.find_claim(id)))

    def delete(self, request: HttpRequest, id: str) -> HttpResponse:
        self.actor.require("accounts.manage")
        claiming.find_claim(id)
        raise NotOffered(FIXED)
