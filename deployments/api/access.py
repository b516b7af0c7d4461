"""Who may act in a restricted environment: its list, and what an account can do where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.querysets import users_visible_to
from accounts.api.serializers import HitOutput, UserReference
from accounts.models import Role, User
from deployments import access, granting
from deployments.models import Environment, EnvironmentAccess
from jobs.api import DeletesByVerb, VerbView
from orchestrator.api.references import resolve
from orchestrator.api.serializers import Input, OneOf, Output, ReferenceOutput, Text
from orchestrator.api.views import ApiView, Lists, Posts, Shows

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

    from jobs.models import Job

LEVELS = EnvironmentAccess.Level.choices


class EnvironmentAccessOutput(Output):
    """A line of an environment's list: an account or a role, and how far it may go."""

    id = serializers.UUIDField()
    user = UserReference(allow_null=True)
    role = ReferenceOutput(allow_null=True)
    level = serializers.ChoiceField(LEVELS, help_text="Each has those before it.")
    created_by = UserReference(allow_null=True)
    created_at = serializers.DateTimeField()


class EnvironmentAccessInput(Input):
    user = Text(max_length=150, required=False, help_text="Id or name; or else `role`.")
    role = Text(max_length=150, required=False, help_text="Id or name.")
    level = OneOf(LEVELS)


class AccessView(ApiView):
    tag = "environments"
    model = EnvironmentAccess
    output: Any = EnvironmentAccessOutput
    lookup_url_kwarg = "line"

    @property
    def environment(self) -> Environment:
        found: Environment = self.find(
            self.kwargs["id"], Environment.objects.visible_to(self.actor)
        )
        return found

    def rows(self) -> QuerySet[EnvironmentAccess]:
        rows = EnvironmentAccess.objects.visible_to(self.actor).for_page()
        return rows.filter(environment=self.environment)


class AccessList(AccessView, Lists, Posts):
    input = EnvironmentAccessInput
    permission = "deployments.manage"
    docs = {
        "GET": "List who may act in an environment while it is restricted, and how far.",
        "POST": "Put an account or a role on the list, or change its level there.",
    }

    def perform(self, data: dict[str, Any]) -> EnvironmentAccess:
        environment = self.environment
        access.require_change(self.actor, environment)
        if "user" in data:
            data["user"] = resolve(User.objects.all(), data["user"], field="user", name="username")
        if "role" in data:
            rows = Role.objects.select_related("group")
            data["role"] = resolve(rows, data["role"], field="role", name="group__name")
        made = granting.give(self.actor, environment=environment, **data)
        return self.get_queryset().get(pk=made.pk)


class AccessItem(AccessView, Shows, DeletesByVerb):
    docs = {
        "GET": "Show a line of the list.",
        "DELETE": "Take an account or a role off the list. Steps of its tasks that run go on to "
        "their end, and none begins any more: such a task rests until somebody who may continues "
        "it.",
    }

    def remove(self, target: EnvironmentAccess) -> Job:
        return granting.revoke(self.actor, target)


class TasksHitOutput(Output):
    """The tasks that would be held."""

    hits = HitOutput(many=True)


class AccessImpact(AccessView):
    output = TasksHitOutput
    docs = {"GET": "List the tasks that taking this off the list would hold now."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        return Response(self.represent({"hits": granting.impact(self.actor, self.target())}))


class _Verb(VerbView):
    tag = "environments"
    model = Environment
    permission = "deployments.manage"

    def rows(self) -> QuerySet[Environment]:
        return Environment.objects.visible_to(self.actor)


class EnvironmentRestrict(_Verb):
    docs = {
        "POST": "Let only those on its list act in an environment. Tasks of others that run there "
        "are held, as when they are taken off the list."
    }

    def act(self, target: Environment, data: dict[str, Any]) -> Job:
        return granting.restrict(self.actor, target)


class EnvironmentOpen(_Verb):
    docs = {"POST": "Let everybody act in an environment whose roles allow it. Its list is kept."}

    def act(self, target: Environment, data: dict[str, Any]) -> Job:
        return granting.restrict(self.actor, target, restricted=False)


class ReachOutput(Output):
    """How far an account can go in an environment, and why."""

    environment = ReferenceOutput()
    restricted = serializers.BooleanField(source="environment.restricted")
    levels = serializers.ListField(
        child=serializers.ChoiceField(LEVELS), help_text="Empty: it may see it at most."
    )
    why = serializers.CharField()


class ReachesOutput(Output):
    """How far an account can go in each environment."""

    environments = ReachOutput(many=True)


class UserEnvironments(ApiView):
    tag = "users"
    model = User
    output = ReachesOutput
    docs = {"GET": "Tell how far an account of either kind can go in each environment, and why."}

    def rows(self) -> QuerySet[User]:
        return users_visible_to(self.actor)

    def get(self, request: Request, **kwargs: Any) -> Response:
        reaches = access.reach_of(self.actor, self.target())
        return Response(self.represent({"environments": reaches}))
