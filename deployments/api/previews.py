"""What a deployment would do: deltas, plan, warnings, fingerprint. Nothing is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from deployments import dictionaries, specs
from deployments.api.packages import Keys
from deployments.models import Application, Environment, Package
from deployments.planning import Operation
from deployments.running.policy import whole_plan
from deployments.specs import DEPLOY, UNDEPLOY
from orchestrator.api.references import as_id, resolve
from orchestrator.api.serializers import Input, OneOf, Output, Text
from orchestrator.api.views import ApiView
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

    from accounts.actors import Actor
    from deployments.prepared import DeltaView, Prepared

OPERATIONS = [one.value for one in Operation]


class DeploymentInput(Input):
    """What is to be deployed, or undeployed, where and how."""

    environment = Text(max_length=100, help_text="Id or name.")
    package = Text(
        max_length=200, required=False, help_text="Id, or application and version: `Shop 1.0`."
    )
    application = Text(max_length=100, required=False, help_text="Id or name, to undeploy.")
    operation = OneOf([(DEPLOY, DEPLOY), (UNDEPLOY, UNDEPLOY)], default=DEPLOY)
    mapping = serializers.DictField(
        child=serializers.ListField(child=Text(max_length=60)),
        required=False,
        help_text="Deployable → paths of containers, where it is not by type and tags.",
    )
    orchestrators = serializers.ListField(
        child=Text(max_length=200),
        required=False,
        max_length=50,
        help_text="The first is outermost. Without: those of the package, else of a dictionary.",
    )
    options = Keys(
        required=False,
        help_text="`force_redeploy`, `resolution` (latest, existing), `undeploy_dependencies`, "
        "`optimize`, and parameters of orchestrators.",
    )


def asked(actor: Actor, data: dict[str, Any]) -> dict[str, Any]:
    """Return what `specs.prepare` takes for a body. Raises `Invalid` for what is not there."""
    actor.require("deployments.view")
    found: dict[str, Any] = {
        "environment": resolve(
            Environment.objects.visible_to(actor), data["environment"], field="environment"
        ),
        "operation": data.get("operation", DEPLOY),
        "mapping": data.get("mapping"),
        "orchestrators": data.get("orchestrators"),
        "options": data.get("options"),
    }
    if data.get("package"):
        found["package"] = package_named(actor, data["package"])
    if data.get("application"):
        found["application"] = resolve(
            Application.objects.visible_to(actor), data["application"], field="application"
        )
    return found


def package_named(actor: Actor, reference: str) -> Package:
    """Return the package of an id, or of “application version”. Raises `Invalid`."""
    rows = Package.objects.visible_to(actor).whole()
    pk = as_id(reference)
    name, _, version = reference.strip().rpartition(" ")
    found = (
        rows.filter(pk=pk).first()
        if pk
        else rows.filter(application__name__iexact=name, version=version).first()
    )
    if found is None:
        raise Invalid.field("package", f"There is no package “{reference}” that you may see.")
    return found


class DifferenceOutput(Output):
    """One property that differs. Secrets are masked."""

    property = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class DeltaOutput(Output):
    """What happens to one deployed."""

    application = serializers.CharField()
    deployed = serializers.CharField()
    container = serializers.CharField()
    container_name = serializers.CharField()
    operation = serializers.CharField(
        source="operation.value", help_text=f"One of {', '.join(OPERATIONS)}."
    )
    forced = serializers.BooleanField()
    differences = serializers.SerializerMethodField()

    @extend_schema_field(DifferenceOutput(many=True))
    def get_differences(self, delta: DeltaView) -> Any:
        return [dictionaries.masked(one._asdict()) for one in delta.differences]


class WarningOutput(Output):
    """Something worth a look before starting."""

    code = serializers.CharField()
    text = serializers.CharField()


class PreviewOutput(Output):
    """A deployment that could start."""

    kind = serializers.ChoiceField(["initial", "update", "undeploy", "rollback"])
    title = serializers.CharField()
    environment = serializers.UUIDField(source="environment_id")
    operation = serializers.CharField(
        source="operation.value", help_text=f"One of {', '.join(OPERATIONS)}."
    )
    mapping = Keys(help_text="Deployable → paths of its containers.")
    orchestrators = serializers.ListField(child=serializers.CharField())
    orchestrators_from = serializers.CharField(
        help_text="deployment, package, dictionary, record or default."
    )
    deltas = DeltaOutput(many=True)
    plan = serializers.SerializerMethodField(
        help_text="The tree, with gates and approvals: kind, label, made_by, key, children, "
        "steps; null: nothing to run."
    )
    policy = Keys()
    warnings = WarningOutput(many=True)
    fingerprint = serializers.CharField(help_text="Another one means that something changed.")

    @extend_schema_field(Keys(allow_null=True))
    def get_plan(self, prepared: Prepared) -> Any:
        plan = whole_plan(prepared)
        return dictionaries.masked(specs.tree_of(plan)) if plan else None


class Preview(ApiView):
    tag = "environments"
    model = Environment
    input = DeploymentInput
    output = PreviewOutput
    status = 200
    docs = {
        "POST": "See what a deployment would do: differences, plan, warnings. Nothing is done, and "
        "its fingerprint tells later whether anything has changed since."
    }

    def rows(self) -> QuerySet[Environment]:
        return Environment.objects.visible_to(self.actor)

    def post(self, request: Request, **kwargs: Any) -> Response:
        data = asked(self.actor, self.read_body(self.input))
        return Response(self.represent(specs.prepare(actor=self.actor, **data)))
