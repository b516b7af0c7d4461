"""Snapshots of a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from drf_spectacular.utils import OpenApiParameter

from jobs.api import DeletesByVerb, VerbView, answer_with_job
from orchestrator.api.views import ApiView, Lists, Shows
from vms.api import serializers
from vms.api.machines import VMVerb
from vms.models import Snapshot, VirtualMachine
from vms.verbs import snapshots

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request
    from rest_framework.response import Response

    from jobs.models import Job


class SnapshotView(ApiView):
    """An endpoint on the snapshots of the VM that the URL names."""

    tag = "vms"
    model = Snapshot
    output: Any = serializers.SnapshotOutput
    lookup_url_kwarg = "snapshot"

    def vm(self) -> VirtualMachine:
        visible = VirtualMachine.objects.visible_to(self.actor).for_page()
        found: VirtualMachine = self.find(self.kwargs["id"], visible)
        return found

    def rows(self) -> QuerySet[Snapshot]:
        return Snapshot.objects.filter(vm=self.vm()).select_related("vm__host")


class SnapshotList(SnapshotView, Lists, DeletesByVerb, VerbView):
    input = serializers.SnapshotInput
    post_output = VerbView.output
    docs = {
        "GET": "List the snapshots as the VM's host listed them last. `parent` makes them a tree.",
        "POST": "Take a snapshot of a VM at rest; of a running one with its memory.",
        "DELETE": "Delete all snapshots. The VM stays as it is.",
    }

    def act(self, target: Any, data: dict[str, Any]) -> Job:
        return snapshots.take(self.actor, target, **data)

    def target(self) -> VirtualMachine:
        return self.vm()

    def check_replay(self) -> None:
        self.actor.require_scope("vms")

    def remove(self, target: VirtualMachine) -> Job:
        return snapshots.delete_all(self.actor, target)


class SnapshotItem(SnapshotView, Shows, DeletesByVerb):
    docs = {
        "GET": "Show a snapshot.",
        "DELETE": "Delete a snapshot. Those taken after it stay, unless `?children=true`.",
    }
    query: ClassVar[dict[str, list[Any]]] = {
        "DELETE": [OpenApiParameter("children", bool, description="Delete those, too.")]
    }

    def delete(self, request: Request, **kwargs: Any) -> Response:
        children = request.query_params.get("children", "") == "true"
        return answer_with_job(snapshots.delete(self.actor, self.target(), children=children))


class SnapshotRevert(SnapshotView, VerbView):
    output = VerbView.output
    docs = {"POST": "Bring the VM back to a snapshot. What changed since then is lost."}

    def act(self, target: Snapshot, data: dict[str, Any]) -> Job:
        return snapshots.revert(self.actor, target)

    def check_replay(self) -> None:
        self.actor.require_scope("vms")


class SnapshotsRefresh(VMVerb):
    docs = {"POST": "Ask the VM's host which snapshots there are."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return snapshots.look(self.actor, target)
