from __future__ import annotations

from typing import TYPE_CHECKING

from compat.catalog import caches, images, moving, sources
from compat.wire.endpoints import route

if TYPE_CHECKING:
    from django.urls import URLPattern


def _catalog(prefix: str, name: str) -> list[URLPattern]:
    """Return the routes of a catalog: this one, or one that is named in `prefix`."""
    one = f"{prefix}/<str:catalog>/<str:version>/<str:architecture>"
    return [
        route(prefix, images.Catalog, name),
        route(f"{prefix}/pull", moving.Pull, f"{name}-pull"),
        route(f"{prefix}/pull/async", moving.PullAsync, f"{name}-pull-async"),
        route(f"{prefix}/push", moving.Push, f"{name}-push"),
        route(f"{prefix}/push/async", moving.PushAsync, f"{name}-push-async"),
        route(f"{prefix}/import", moving.Import, f"{name}-import"),
        route(f"{prefix}/import-vm", moving.ImportVM, f"{name}-import-vm"),
        route(f"{prefix}/<str:catalog>", images.Named, f"{name}-id"),
        route(f"{prefix}/<str:catalog>/<str:version>", images.Named, f"{name}-version"),
        route(one, images.One, f"{name}-one"),
        route(f"{one}/download", images.Download, f"{name}-download"),
        route(f"{one}/taint", images.Taint, f"{name}-taint"),
        route(f"{one}/untaint", images.Untaint, f"{name}-untaint"),
        route(f"{one}/revoke", images.Revoke, f"{name}-revoke"),
        route(f"{one}/metadata", images.Metadata, f"{name}-metadata"),
        route(f"{one}/connection", images.Connection, f"{name}-connection"),
        route(f"{one}/tags", images.Labels, f"{name}-tags", kind="tags"),
        route(f"{one}/roles", images.Labels, f"{name}-roles", kind="required_roles"),
        route(f"{one}/claims", images.Labels, f"{name}-claims", kind="required_claims"),
    ]


def _cache(prefix: str, name: str) -> list[URLPattern]:
    return [
        route(prefix, caches.Cache, name),
        route(f"{prefix}/<str:catalog>", caches.CachedImage, f"{name}-image"),
        route(f"{prefix}/<str:catalog>/<str:version>", caches.CachedImage, f"{name}-version"),
    ]


urlpatterns = [
    route("catalog-ended/<str:verb>/<uuid:job>", moving.Ended, "catalog-ended"),
    *_cache("cache", "cache"),
    *_cache("catalog/cache", "catalog-cache"),
    *_catalog("catalog", "catalog"),
    route("catalog-managers", sources.Managers, "managers"),
    route("catalog-managers/<str:manager>", sources.OneManager, "manager"),
    *_catalog("catalog-managers/<str:manager>/catalog", "manager-catalog"),
]
