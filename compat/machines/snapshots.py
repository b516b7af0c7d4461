"""The snapshots of a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from compat.machines import finding
from compat.machines.holding import held
from compat.wire.answers import answer
from compat.wire.endpoints import Endpoint
from orchestrator.refusals import NotFound
from vms import verbs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest, HttpResponse

    from vms.models import Snapshot, VirtualMachine


def snapshot_of(vm: VirtualMachine, reference: str) -> Snapshot:
    """Return the snapshot of `vm` with this id of its host. Raises `NotFound`."""
    found = vm.snapshots.select_related("vm__host").filter(host_snapshot_id=reference).first()
    if found is None:
        raise NotFound(f"Snapshot {reference} not found")
    return found


class Snapshots(Endpoint):
    """GET as the host listed them last, POST takes one, DELETE deletes all."""

    ok: ClassVar[int] = 202  # orchestrators answer 200, other than for their other reads

    def get(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        rows = list(vm.snapshots.select_related("parent").order_by("pk"))
        tree = request.GET.get("group", "").lower() == "true"
        return answer(
            {"snapshots": _grouped(rows) if tree else [shown_snapshot(row) for row in rows]},
            self.ok,
        )

    def post(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        job = verbs.snapshots.take(
            self.actor,
            vm,
            name=self.body.text("snapshot_name"),
            description=self.body.text("snapshot_description"),
        )
        return held(self.actor, job, "take-snapshot", vm)

    def delete(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        return held(self.actor, verbs.snapshots.delete_all(self.actor, vm), "delete-snapshots", vm)


class SnapshotItem(Endpoint):
    """DELETE: with `delete_children` those taken after it, too."""

    def delete(self, request: HttpRequest, id: str, snapshot: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        found = snapshot_of(vm, snapshot)
        job = verbs.snapshots.delete(self.actor, found, children=self.body.flag("delete_children"))
        return held(self.actor, job, "delete-snapshots", vm)


class SnapshotRevert(Endpoint):
    """POST: bring the machine back to it. `skip_resume` is not known to hosts either."""

    def post(self, request: HttpRequest, id: str, snapshot: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        job = verbs.snapshots.revert(self.actor, snapshot_of(vm, snapshot))
        return held(self.actor, job, "revert-snapshot", vm)


def shown_snapshot(row: Snapshot) -> dict[str, Any]:
    """Return a snapshot in the words of the contract."""
    return {
        "id": row.host_snapshot_id,
        "name": row.name,
        "date": row.taken_at,
        "state": "poweron" if row.with_memory else "poweroff",
        "current": row.current,
        "parent": row.parent.host_snapshot_id if row.parent else "",
    }


def _grouped(rows: Iterable[Snapshot]) -> list[dict[str, Any]]:
    """Return the snapshots as a tree: each with those that were taken after it."""
    nodes: dict[str, dict[str, Any]] = {
        row.host_snapshot_id: {**shown_snapshot(row), "children": []} for row in rows
    }
    roots: list[dict[str, Any]] = []
    for node in nodes.values():
        above = nodes.get(node["parent"])
        (above["children"] if above else roots).append(node)
    return roots
