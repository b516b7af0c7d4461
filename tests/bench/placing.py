"""Placing many VMs through `vms.placement.place_pending`. Called in a Django process."""

from __future__ import annotations

import time

from celery import current_app

from hosts.models import RESOURCES, HostCapacity
from jobs.models import Job
from jobs.queueing import PARKED
from tests.bench import rows
from vms.models import Placement, VirtualMachine
from vms.placement import place_pending
from vms.states import State


def measure(rounds: int, vms: int, template_id: str) -> dict[str, list[float]]:
    """Return placements a second, and a pass over a full pool in milliseconds, of each round."""
    rows.pending(vms, template_id)
    found: dict[str, list[float]] = {"rate": [], "cpu": [], "full_ms": []}
    for _ in range(rounds):
        _unplace()
        began, cpu = time.perf_counter(), time.process_time()
        placed = place_pending()
        seconds = time.perf_counter() - began
        if placed != vms:
            raise RuntimeError(f"{placed} of {vms} VMs were placed.")
        found["rate"].append(placed / seconds)
        found["cpu"].append((time.process_time() - cpu) / placed * 1000)
        _unplace()
        HostCapacity.objects.update(cpus_reserved=64)
        place_pending()  # stores the reasons; the next pass is like all that follow
        began = time.perf_counter()
        place_pending()
        found["full_ms"].append((time.perf_counter() - began) * 1000)
    return found


def _unplace() -> None:
    Placement.objects.all().delete()
    VirtualMachine.objects.update(state=State.PENDING, host=None)
    Job.objects.update(state=Job.State.QUEUED, step="place", lane="", run_after=PARKED)
    HostCapacity.objects.update(
        cpus_reserved=0, **{f"{resource}_charged": 0 for resource in RESOURCES}
    )
    current_app.control.purge()
