"""The routes of machines, three times: of what looks like one host, of the pool, of each host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compat.machines import creating, holding, reading, setting, snapshots, verbs
from compat.wire.endpoints import route

if TYPE_CHECKING:
    from django.urls import URLPattern


def _machines(prefix: str, name: str, *, read: int, listed: int) -> list[URLPattern]:
    """Return the routes below `prefix`; reads answer with `read`, lists of snapshots `listed`."""
    one = f"{prefix}/<str:id>"
    return [
        route(prefix, MachineCollection, f"{name}-list", ok=read),
        route(f"{prefix}/async", creating.CreateAsync, f"{name}-create-async"),
        route(one, reading.Machine, name, ok=read),
        route(f"{one}/status", reading.MachineStatus, f"{name}-status", ok=read),
        *(
            route(f"{one}/{verb}", verbs.MachineVerb, f"{name}-{verb}", verb=verb)
            for verb in verbs.STATE_VERBS
        ),
        route(f"{one}/set", setting.Configure, f"{name}-set"),
        route(f"{one}/clone", verbs.Clone, f"{name}-clone"),
        route(f"{one}/rename", verbs.Rename, f"{name}-rename"),
        route(f"{one}/execute", verbs.Execute, f"{name}-execute"),
        route(f"{one}/upload", verbs.Upload, f"{name}-upload"),
        route(f"{one}/snapshots", snapshots.Snapshots, f"{name}-snapshots", ok=listed),
        route(f"{one}/snapshots/<str:snapshot>", snapshots.SnapshotItem, f"{name}-snapshot"),
        route(
            f"{one}/snapshots/<str:snapshot>/revert",
            snapshots.SnapshotRevert,
            f"{name}-snapshot-revert",
        ),
    ]


class MachineCollection(reading.MachineList, creating.Creates):
    """GET lists, POST creates."""


urlpatterns = [
    route("ended/<str:verb>/<uuid:job>", holding.Ended, "ended"),
    *_machines("machines", "machine", read=200, listed=202),
    *_machines("orchestrator/machines", "pool-machine", read=202, listed=200),
    *_machines("orchestrator/hosts/<str:host>/machines", "host-machine", read=202, listed=200),
]
