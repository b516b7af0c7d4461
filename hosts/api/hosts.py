"""Hosts, their VMs and holds, and the verbs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from hosts import enrolment, holds, removal, verbs
from hosts.api import serializers
from hosts.models import Architecture, Health, Host, HostHold, HostVM
from jobs.api import DeletesByVerb, VerbView
from orchestrator.api import idempotency
from orchestrator.api.pagination import InOrder
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from jobs.models import Job


class HostFilter(django_filters.FilterSet):
    name = django_filters.CharFilter(lookup_expr="iexact")
    health = django_filters.MultipleChoiceFilter(
        field_name="status__health", choices=Health.choices
    )
    architecture = django_filters.ChoiceFilter(
        field_name="status__architecture", choices=Architecture.choices
    )

    class Meta:
        model = Host
        fields = ["name", "health", "architecture"]


class HostView(ApiView):
    tag = "hosts"
    model = Host
    output: Any = serializers.HostOutput

    def rows(self) -> QuerySet[Host]:
        # Not even read where nothing connects.
        return Host.objects.visible_to(self.actor).for_page().defer("password", "api_key")


class HostList(HostView, Lists, Posts):
    input = serializers.HostInput
    filterset_class = HostFilter
    permission = "hosts.manage"
    docs = {
        "GET": "List the hosts of the pool.",
        "POST": "Enrol a host. The connection is tried first; a refusal says what is wrong.",
    }

    def prepare(self, data: dict[str, Any]) -> dict[str, Any]:
        """Try the connection here when a key's transaction follows: none waits for a host."""
        if idempotency.HEADER not in self.request.headers:
            return data  # enrol() tries it by itself, before its own transaction
        self.actor.require(self.permission)
        found = enrolment.try_connection(
            data["url"],
            data.get("username", ""),
            data.get("password", ""),
            data.get("api_key", ""),
            data.get("tls_fingerprint", ""),
        )
        return data | {"found": found}

    def perform(self, data: dict[str, Any]) -> Host:
        host = enrolment.enrol(self.actor, **data)
        return self.find(host.pk, self.get_queryset())


class HostItem(HostView, Shows, Patches, DeletesByVerb):
    changes = serializers.HostChanges
    docs = {
        "GET": "Show a host: health, holds, capacity.",
        "PATCH": "Change name, tags, credentials or the pinned certificate. New credentials are "
        "tried first.",
        "DELETE": "Remove a host from the pool; its row stays for history.",
    }
    query: ClassVar[dict[str, list[Any]]] = {
        "DELETE": [
            OpenApiParameter(
                "forget_vms",
                OpenApiTypes.BOOL,
                description="Forget our VMs that are on it. Without it, a host that has some is "
                "refused.",
            )
        ]
    }

    def waits_for_others(self, data: dict[str, Any]) -> bool:
        return bool(data.keys() - {"name", "tags"})

    def change(self, host: Host, data: dict[str, Any]) -> None:
        enrolment.update_host(self.actor, host, **data)

    def remove(self, target: Host) -> Job:
        text = self.request.query_params.get("forget_vms", "false").lower()
        if text not in ("true", "false"):
            raise Invalid.field("forget_vms", "Say true or false.")
        return removal.remove(self.actor, target, forget_vms=text == "true")


class HostVMs(Lists):
    tag = "hosts"
    model = HostVM
    output = serializers.HostVMOutput
    pagination_class = InOrder
    docs = {"GET": "List the VMs that the host listed last, ours and foreign ones."}

    def rows(self) -> QuerySet[HostVM]:
        host = self.find(self.kwargs["id"], Host.objects.visible_to(self.actor))
        return HostVM.objects.filter(host=host)


class HostVerb(HostView, VerbView):
    """A verb on a host."""

    permission = "hosts.manage"
    output = VerbView.output


class HostCordon(HostVerb):
    input = serializers.HoldInput
    docs = {"POST": "Cordon a host: it takes no new VMs. Again replaces reason and end."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.hold(self.actor, target, "cordon", **data)


class HostUncordon(HostVerb):
    docs = {"POST": "End the cordon of a host."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.release(self.actor, target, "cordon")


class HostDisable(HostVerb):
    input = serializers.HoldInput
    docs = {"POST": "Disable a host: it takes no new VMs and is not polled."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.hold(self.actor, target, "disable", **data)


class HostEnable(HostVerb):
    docs = {"POST": "Enable a host that was disabled."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.release(self.actor, target, "disable")


class HostMaintain(HostVerb):
    input = serializers.WindowInput
    docs = {"POST": "Plan a window in which a host takes no new VMs. It begins and ends by itself."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return holds.plan_maintenance(self.actor, target, **data)


class HostHolds(Lists):
    tag = "hosts"
    model = HostHold
    output = serializers.PastHoldOutput
    docs = {"GET": "List the holds of a host: those in force, planned and ended."}

    def rows(self) -> QuerySet[HostHold]:
        host = self.find(self.kwargs["id"], Host.objects.visible_to(self.actor))
        return HostHold.objects.filter(host=host).select_related("by")


class HostHoldEnd(HostVerb):
    docs = {"POST": "End one hold, or take a planned window back."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        rows = HostHold.objects.filter(host=target).select_related("host")
        return holds.end(self.actor, self.find(self.kwargs["hold"], rows))


class HostInventory(HostVerb):
    docs = {"POST": "Read the inventory of a host now."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return verbs.request_inventory(self.actor, target)
