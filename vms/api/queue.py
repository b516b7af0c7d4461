"""The queue, and the quotas that bind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.querysets import roles_visible_to, users_visible_to
from accounts.api.serializers import UserReference
from jobs.api import VerbView
from orchestrator.api.references import resolve
from orchestrator.api.serializers import Flag, Input, Output, ReferenceOutput, Text, Whole
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows
from vms import queue, quotas
from vms.models import QueueState, Quota, VirtualMachine

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

    from jobs.models import Job


class QueueOutput(Output):
    """The queue of pending VMs."""

    held = serializers.SerializerMethodField(help_text="Nothing is placed until it is released.")
    note = serializers.CharField(help_text="Why it is held.")
    held_by = UserReference(allow_null=True)
    held_at = serializers.DateTimeField(allow_null=True)
    length = serializers.SerializerMethodField(help_text="Pending VMs, of everybody.")

    def get_held(self, state: QueueState) -> bool:
        return state.held_at is not None

    def get_length(self, state: QueueState) -> int:
        return VirtualMachine.objects.pending().count()


class HoldQueueInput(Input):
    note = Text(max_length=300, help_text="Everybody who waits sees it.")


class QueueView(ApiView):
    tag = "queue"
    model = QueueState
    output: Any = QueueOutput


class QueueItem(QueueView):
    docs = {"GET": "Show whether the queue is held. A VM tells by itself where it stands."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        return Response(self.represent(queue.state()))


class QueueVerb(QueueView, VerbView):
    output = VerbView.output
    permission = "vms.manage_all"


class QueueHold(QueueVerb):
    input = HoldQueueInput
    docs = {"POST": "Hold the queue: what is pending waits, with a note that everybody sees."}

    def perform(self, data: dict[str, Any]) -> Job:
        return queue.hold(self.actor, **data)


class QueueRelease(QueueVerb):
    docs = {"POST": "Let the queue go on."}

    def perform(self, data: dict[str, Any]) -> Job:
        return queue.release(self.actor)


class AmountsOutput(Output):
    """VMs that have a host, and their size."""

    vms = serializers.IntegerField(source="maximum_vms")
    cpus = serializers.IntegerField(source="maximum_cpus")
    memory_mib = serializers.IntegerField(source="maximum_memory_mib")


class QuotaOutput(Output):
    """How much an account, or all on a role's share, may have placed at once."""

    id = serializers.UUIDField()
    user = UserReference(allow_null=True)
    role = ReferenceOutput(allow_null=True)
    maximum_vms = serializers.IntegerField(allow_null=True, help_text="Null: no limit.")
    maximum_cpus = serializers.IntegerField(allow_null=True)
    maximum_memory_mib = serializers.IntegerField(allow_null=True)
    borrow = serializers.BooleanField(
        help_text="More is allowed while nobody within their quota wants it."
    )
    used = AmountsOutput()
    created_at = serializers.DateTimeField()

    def to_representation(self, instance: Quota) -> dict[str, Any]:
        instance.used = quotas.used_of(instance)  # type: ignore[attr-defined]
        return super().to_representation(instance)


class QuotaChanges(Input):
    maximum_vms = Whole(required=False, allow_null=True)
    maximum_cpus = Whole(required=False, allow_null=True)
    maximum_memory_mib = Whole(required=False, allow_null=True)
    borrow = Flag(required=False)


class QuotaInput(QuotaChanges):
    user = Text(max_length=150, required=False, help_text="Id or name; or else `role`.")
    role = Text(max_length=150, required=False, help_text="Id or name.")


class QuotaView(ApiView):
    tag = "queue"
    model = Quota
    output: Any = QuotaOutput

    def rows(self) -> QuerySet[Quota]:
        return Quota.objects.visible_to(self.actor).for_page()


class QuotaList(QuotaView, Lists, Posts):
    input = QuotaInput
    permission = "accounts.manage"
    docs = {
        "GET": "List the quotas that bind you; everybody's with the right to see accounts.",
        "POST": "Give an account or a role a quota. Who is at a limit waits in the queue.",
    }

    def perform(self, data: dict[str, Any]) -> Quota:
        self.actor.require(self.permission)
        if "user" in data:
            rows: Any = users_visible_to(self.actor)
            data["user"] = resolve(rows, data["user"], field="user", name="username")
        if "role" in data:
            rows = roles_visible_to(self.actor)
            data["role"] = resolve(rows, data["role"], field="role", name="group__name")
        made = quotas.set_quota(self.actor, **data)
        found: Quota = self.find(made.pk, self.get_queryset())
        return found


class QuotaItem(QuotaView, Shows, Patches):
    changes: ClassVar[type[Input]] = QuotaChanges
    docs = {
        "GET": "Show a quota, with what counts against it now.",
        "PATCH": "Change limits or borrowing. Nothing that runs is ended by it.",
        "DELETE": "Take a quota away: its subject is limited no more.",
    }

    def change(self, thing: Quota, data: dict[str, Any]) -> None:
        quotas.change_quota(self.actor, thing, **data)

    def delete(self, request: Request, **kwargs: Any) -> Response:
        quotas.remove_quota(self.actor, self.target())
        return Response(status=204)
