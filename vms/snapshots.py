"""The snapshots of a VM as its host listed them last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from vms.lifecycle import announce
from vms.models import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from hosts.drivers import base
    from vms.models import VirtualMachine


def record(vm: VirtualMachine, listed: Sequence[base.Snapshot]) -> None:
    """Make the stored snapshots equal to `listed`, in which each comes after its parent."""
    with transaction.atomic():
        ids: dict[str, UUID] = {}
        for one in listed:
            row, _created = Snapshot.objects.update_or_create(
                vm=vm,
                host_snapshot_id=one.id[:100],
                defaults={
                    "name": one.name[:200],
                    "parent_id": ids.get(one.parent),
                    "taken_at": one.taken_at[:40],
                    "with_memory": one.with_memory,
                    "current": one.current,
                    "seen_at": Now(),
                },
            )
            ids[one.id] = row.pk
        Snapshot.objects.filter(vm=vm).exclude(pk__in=ids.values()).delete()
        announce(vm)


def as_tree(rows: Iterable[Snapshot]) -> list[tuple[int, Snapshot]]:
    """Return the snapshots depth first, each with how deep it lies."""
    children: dict[UUID | None, list[Snapshot]] = {}
    for row in rows:
        children.setdefault(row.parent_id, []).append(row)
    tree: list[tuple[int, Snapshot]] = []

    def walk(parent: UUID | None, depth: int) -> None:
        for row in children.get(parent, []):
            tree.append((depth, row))
            walk(row.pk, depth + 1)

    walk(None, 0)
    return tree
