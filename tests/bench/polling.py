"""Polling many hosts through `hosts.polling.tick`. Called in a Django process."""

from __future__ import annotations

import time

from django.db.models.functions import Now

from hosts.models import Health, HostStatus
from hosts.polling import tick
from orchestrator.db.clock import from_now

MAX_TICKS = 10


def measure(rounds: int, inventories: int) -> dict[str, list[float]]:
    """Return hosts a second and milliseconds of this process's CPU per host, of each round.

    The first look at `inventories` of the hosts is apart from the light probes that follow.
    """
    count = HostStatus.objects.count()
    some = HostStatus.objects.order_by("pk").values("pk")[:inventories]
    HostStatus.objects.exclude(pk__in=some).update(next_poll_at=from_now(3600))
    inventory_rate, inventory_cpu = _round(inventories)
    HostStatus.objects.update(next_poll_at=Now(), inventory_due_at=from_now(3600))
    _round(count)  # warm, and the rest is seen for the first time
    if ill := HostStatus.objects.exclude(health=Health.HEALTHY).first():
        raise RuntimeError(f"A simulated host is {ill.health}: {ill.reason or ill.failing}")
    found: dict[str, list[float]] = {
        "inventory_rate": [inventory_rate],
        "inventory_cpu": [inventory_cpu],
        "rate": [],
        "cpu": [],
    }
    for _ in range(rounds):
        HostStatus.objects.update(next_poll_at=Now(), inventory_due_at=from_now(3600))
        rate, cpu = _round(count)
        found["rate"].append(rate)
        found["cpu"].append(cpu)
    return found


def _round(count: int) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    polled = 0
    for _ in range(MAX_TICKS):
        polled += tick()
        if polled >= count:
            break
    if polled < count:
        raise RuntimeError(f"Only {polled} of {count} hosts were polled.")
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    return polled / seconds, used / polled * 1000
