"""The caches of all hosts as one. That of a single host is below `/orchestrator/hosts/{id}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog import caching
from catalog.models import HostImage
from compat.catalog.shown import cached_out
from compat.wire.answers import answer, compact, empty
from compat.wire.endpoints import Endpoint
from hosts.models import Host
from jobs import batches
from orchestrator.refusals import NotFound

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse


class Cache(Endpoint):
    with_diagnostics = True

    def rows(self) -> QuerySet[HostImage]:
        """Return what the hosts that the caller sees have cached."""
        self.actor.require("images.view")
        rows = HostImage.objects.filter(host__in=Host.objects.visible_to(self.actor))
        return rows.order_by("catalog_id", "version", "architecture", "host")

    def get(self, request: HttpRequest) -> HttpResponse:
        return answer(cached_out(self.rows()))

    def delete(self, request: HttpRequest, catalog: str = "", version: str = "") -> HttpResponse:
        """Have every host that has it delete it: a batch, in which each host answers for itself."""
        self.actor.require("hosts.manage")
        rows = self.rows()
        if catalog:
            rows = rows.filter(catalog_id__iexact=catalog)
        if version:
            rows = rows.filter(version=version)
        hosts = list(Host.objects.present().filter(pk__in=rows.values("host")).order_by("pk"))
        if not hosts and catalog:
            raise NotFound("No host has cached this image.")
        if hosts:
            options: dict[str, Any] = compact({"catalog_id": catalog, "version": version})
            options = options or {"everything": True}
            batches.request(self.actor, caching.DELETE, hosts, options=options)
        return empty()


class CachedImage(Cache):
    http_method_names = ["delete"]
