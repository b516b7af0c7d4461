"""The calls about a host itself, beside its VMs: its cache, what is registered, logs, proxy."""

from __future__ import annotations

from hosts.drivers.base import CachedImage, Limits, RemoteVM

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


def register(path: str, name: str, new_id: bool, limits: Limits) -> Call[RemoteVM]:
    return Call(
        "register the VM",
        "POST",
        "/machines/register",
        limits.state_seconds,
        parsing.vm,
        body={
            "path": path,
            **({"machine_name": name} if name else {}),
            "regenerate_source_uuid": new_id,
        },
        changes_state=True,
    )


def unregister(vm_id: str, limits: Limits) -> Call[None]:
    return Call(
        "unregister the VM",
        "POST",
        join("machines", vm_id, "unregister"),
        limits.state_seconds,
        parsing.done,
        body={"id": vm_id, "clean_source_uuid": False},
        changes_state=True,
    )
