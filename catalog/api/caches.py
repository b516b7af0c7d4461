"""`/api/v2/hosts/<id>/cache/`: what hosts have cached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from catalog import caching, collecting
from catalog.models import HostImage, Image
from hosts.api import HostVerb
from hosts.models import Host
from orchestrator.api.pagination import InOrder
from orchestrator.api.references import resolve
from orchestrator.api.routing import route
from orchestrator.api.serializers import Flag, Input, Moment, Output, Text, Whole
from orchestrator.api.views import Lists

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from jobs.models import Job


class HostImageOutput(Output):
    """An image that a host has cached, as it said last."""

    catalog_id = serializers.CharField(help_text="Upper case, as hosts keep it.")
    version = serializers.CharField()
    architecture = serializers.CharField(help_text="Empty where the host does not say.")
    size_mib = serializers.IntegerField()
    cached_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    seen_at = serializers.DateTimeField()
    going_since = serializers.DateTimeField(
        allow_null=True, help_text="It is being deleted, since then."
    )


class PullOptions(Input):
    not_before = Moment(required=False, help_text="The pull begins then, at the earliest.")
    not_after = Moment(required=False, help_text="What has not begun by then fails.")
    mib_per_second = Whole(
        required=False,
        min_value=1,
        max_value=caching.FASTEST_MIB,
        help_text="Limit of bandwidth, which all pulls of a batch share. The pack goes through "
        "this product then. Refused where hosts read a pack from elsewhere.",
    )


class PullInput(PullOptions):
    image = Text(max_length=200, help_text="Its id.")


class PullManyInput(PullOptions):
    catalog_id = Text(max_length=200, help_text="Each host takes it in its own architecture.")
    version = Text(
        max_length=100, required=False, help_text="Default: what was added last; or `latest`."
    )


class CacheDeleteInput(Input):
    catalog_id = Text(max_length=200, required=False)
    version = Text(max_length=100, required=False, help_text="Default: every version.")
    everything = Flag(required=False, help_text="Instead of one image.")


class HostCache(Lists):
    tag = "hosts"
    model = HostImage
    output = HostImageOutput
    pagination_class = InOrder
    docs = {"GET": "List what the host has cached, as it said last."}

    def rows(self) -> QuerySet[HostImage]:
        host = self.find(self.kwargs["id"], Host.objects.visible_to(self.actor))
        self.actor.require("images.view")
        return HostImage.objects.filter(host=host)


class HostCachePull(HostVerb):
    input = PullInput
    docs = {"POST": "Have a host download an image into its cache."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        self.actor.require(self.permission)  # before images are told from absent ones
        rows = Image.objects.visible_to(self.actor)
        image = resolve(rows, data["image"], field="image", name="catalog_id")
        del data["image"]
        return caching.pull(self.actor, target, image, **data)


class HostCacheDelete(HostVerb):
    input = CacheDeleteInput
    docs = {
        "POST": "Delete an image, or everything, from the cache of a host. Refused while a VM that "
        "waits or is being made relies on it."
    }

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return caching.delete(self.actor, target, **data)


class CacheQuotaInput(Input):
    quota_mib = Whole(allow_null=True, help_text="Null: no quota.")


class HostCacheQuota(HostVerb):
    input = CacheQuotaInput
    docs = {
        "POST": "Say how much a host may cache. What is over is collected, the least used first, "
        "but nothing that a VM which waits or is being made relies on."
    }

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return collecting.set_quota(self.actor, target, **data)


class HostCacheCollect(HostVerb):
    docs = {"POST": "Collect what is over the quota of a host's cache now."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return collecting.collect(self.actor, target)


urlpatterns = [
    route("hosts/<uuid:id>/cache/", HostCache, "host-cache"),
    route("hosts/<uuid:id>/cache/pull/", HostCachePull, "host-cache-pull"),
    route("hosts/<uuid:id>/cache/delete/", HostCacheDelete, "host-cache-delete"),
    route("hosts/<uuid:id>/cache/quota/", HostCacheQuota, "host-cache-quota"),
    route("hosts/<uuid:id>/cache/collect/", HostCacheCollect, "host-cache-collect"),
]
