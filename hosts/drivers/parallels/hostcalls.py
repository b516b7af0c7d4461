"""The calls about a host itself, beside its VMs: its cache, what is registered, logs, proxy."""

from __future__ import annotations

from hosts.drivers.base import CachedImage, Limits

from . import parsing
from .calls import Call, join


def cached_images(limits: Limits) -> Call[tuple[CachedImage, ...]]:
    return Call("list its cached images", "GET", "/v1/cache", limits.list_seconds, parsing.images)


def delete_cached(catalog_id: str, version: str, limits: Limits) -> Call[None]:
    return Call(
        "delete what it has cached",
        "DELETE",
        join("v1", "cache", *filter(None, (catalog_id, version))),
        limits.state_seconds,
        parsing.done,
        changes_state=True,
        may_be_empty=True,
    )
