"""Many templates granted to many subjects, with a preview."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers
from rest_framework.response import Response

from accounts.models import Role, User
from jobs.api import VerbView
from orchestrator.api.references import resolve
from orchestrator.api.serializers import (
    Input,
    Moment,
    OneOf,
    Output,
    ReferenceOutput,
    Text,
    Texts,
    Whole,
)
from orchestrator.api.views import ApiView
from vms import access, bulk_grants
from vms.bulk_grants import Terms
from vms.models import Grant, Template

if TYPE_CHECKING:
    from rest_framework.request import Request

    from accounts.actors import Actor
    from jobs.models import Job


class GrantManyInput(Input):
    templates = Texts(min_length=1, help_text="Ids or names.")
    users = Texts(required=False, help_text="Ids or names.")
    roles = Texts(required=False, help_text="Ids or names.")
    level = OneOf(Grant.Level.choices)
    maximum_vms = Whole(min_value=1, required=False, allow_null=True)
    maximum_lease_seconds = Whole(min_value=1, required=False, allow_null=True)
    expires_at = Moment(required=False, allow_null=True)


class GrantManyConfirmed(GrantManyInput):
    selection = Text(
        max_length=32,
        required=False,
        help_text="Of the preview: refuses when something else would be granted than it said.",
    )


class PairOutput(Output):
    """One subject × template."""

    template = ReferenceOutput()
    subject = serializers.CharField(source="subject_name")
    why_not = serializers.CharField(help_text="Why nothing is granted; empty: it is.")


class GrantPreviewOutput(Output):
    """What would be granted now."""

    pairs = PairOutput(many=True)
    selection = serializers.CharField(help_text="Send it along to grant exactly this.")


def read(actor: Actor, data: dict[str, Any]) -> dict[str, Any]:
    """Return a body's names as rows, and its terms."""
    templates = Template.objects.visible_to(actor)
    roles = Role.objects.select_related("group")
    # Whoever may manage a template may grant it to anybody whose exact name they know.
    actor.require_scope("templates")
    found: dict[str, Any] = {
        "templates": [resolve(templates, one, field="templates") for one in data.pop("templates")]
    }
    for template in found["templates"]:
        access.require_manage(actor, template)
    found["users"] = [
        resolve(User.objects.all(), one, field="users", name="username")
        for one in data.pop("users", [])
    ]
    found["roles"] = [
        resolve(roles, one, field="roles", name="group__name") for one in data.pop("roles", [])
    ]
    selection = {"selection": data.pop("selection")} if "selection" in data else {}
    return {**found, **selection, "terms": Terms(**data)}


class GrantPreview(ApiView):
    tag = "grants"
    model = Grant
    input = GrantManyInput
    output = GrantPreviewOutput
    status = 200
    docs = {"POST": "See what granting many templates to many subjects would do; nothing is done."}

    def post(self, request: Request, **kwargs: Any) -> Response:
        asked = read(self.actor, self.read_body(self.input))
        return Response(self.represent(bulk_grants.preview(self.actor, **asked)))


class GrantMany(VerbView):
    tag = "grants"
    model = Grant
    input = GrantManyConfirmed
    docs = {
        "POST": "Grant many templates to many subjects on the same terms, in one transaction. Who "
        "has as much already is passed over."
    }

    def check_replay(self) -> None:
        self.actor.require_scope("templates")

    def perform(self, data: dict[str, Any]) -> Job:
        return bulk_grants.grant_many(self.actor, **read(self.actor, data))
