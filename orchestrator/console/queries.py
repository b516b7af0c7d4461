"""What the overview shows: a constant number of queries, however many hosts and VMs there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Q, Sum
from django.utils import timezone

from hosts.models import RESOURCES, Health, Host, HostCapacity, HostHold
from jobs.models import Job
from jobs.queueing import PARKED
from orchestrator.web import names
from orchestrator.web.models import Heartbeat
from vms.models import Lease, VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from accounts.actors import Actor

SHOWN = 8  # rows of each list
LEASE_HORIZON = timedelta(hours=24)
PROBLEM_HORIZON = timedelta(hours=24)
PARTS = ("total", "charged", "foreign", "reserved")
OPEN_JOBS = [Job.State.QUEUED, Job.State.RUNNING, Job.State.CANCELLING]


def overview(actor: Actor) -> dict[str, Any]:
    """Return the context of the overview for `actor`."""
    sees_hosts = actor.can("hosts.view")
    vms = VirtualMachine.objects.visible_to(actor)
    by_state = _counts(vms.open(), "state")
    jobs = list(
        Job.objects.visible_to(actor)
        .filter(state__in=OPEN_JOBS)
        .exclude(run_after=PARKED)  # VMs that wait for a host are in the queue
        .for_page()
        .order_by("-pk")[:SHOWN]
    )
    failed = list(
        Job.objects.visible_to(actor)
        .filter(state=Job.State.FAILED, pk__gt=first_id(timezone.now() - PROBLEM_HORIZON))
        .order_by("-pk")[:SHOWN]
    )
    return {
        "sees_hosts": sees_hosts,
        "hosts": _hosts(actor) if sees_hosts else None,
        "capacity": _capacity() if sees_hosts else [],
        "vms": {
            "total": sum(by_state.values()),
            "running": by_state.get(State.RUNNING, 0),
            "pending": by_state.get(State.PENDING, 0),
            "by_state": [(word, by_state[word]) for word in State.values if word in by_state],
        },
        "queue": list(vms.pending().select_related("template", "requested_by")[:SHOWN]),
        "jobs": jobs,
        "leases": _leases(actor),
        "ill_vms": list(
            vms.open()
            .filter(~Q(problem="") | Q(missing_since__isnull=False))
            .select_related("host")
            .order_by("-pk")[:SHOWN]
        ),
        "failed_jobs": failed,
        "names": names.of(job.subject for job in [*jobs, *failed]),
        "missing": _missing_processes(),
        "limit": SHOWN,
    }


def _counts(rows: Any, field: str) -> dict[str, int]:
    return dict(rows.order_by().values_list(field).annotate(Count("pk")))


def _hosts(actor: Actor) -> dict[str, Any]:
    hosts = Host.objects.visible_to(actor)
    by_health = _counts(hosts, "status__health")
    held = dict(
        HostHold.objects.live()
        .filter(host__removed_at=None)
        .order_by()
        .values_list("kind")
        .annotate(Count("host", distinct=True))
    )
    ill = hosts.filter(status__health__in=[Health.UNREACHABLE, Health.DEGRADED])
    return {
        "total": sum(by_health.values()),
        "healthy": by_health.get(Health.HEALTHY, 0),
        "by_health": [(word, by_health[word]) for word in Health.values if word in by_health],
        "held": sorted(held.items()),
        "ill": list(ill.select_related("status").order_by("-status__changed_at")[:SHOWN]),
    }


def _capacity() -> list[dict[str, Any]]:
    """Return total, charged, foreign and reserved of every resource, by architecture."""
    columns = [f"{resource}_{part}" for resource in RESOURCES for part in PARTS]
    rows: Any = (
        HostCapacity.objects.filter(host__removed_at=None)
        .exclude(host__status__architecture="")
        .order_by()
        .values("host__status__architecture")
        .annotate(
            hosts=Count("host"),
            **{f"sum_{column}": Sum(column) for column in columns},
        )
    )
    return [
        {
            "architecture": row["host__status__architecture"],
            "hosts": row["hosts"],
            **{column: row[f"sum_{column}"] or 0 for column in columns},
        }
        for row in sorted(rows, key=lambda row: row["host__status__architecture"])
    ]


def _leases(actor: Actor) -> list[Lease]:
    leases = Lease.objects.filter(
        acted_at=None,
        ends_at__lt=timezone.now() + LEASE_HORIZON,
    ).exclude(vm__state__in=State.final())
    if not actor.can("vms.view_all"):
        leases = leases.filter(vm__in=VirtualMachine.objects.visible_to(actor))
    return list(
        leases.select_related("vm__template", "vm__requested_by").order_by("ends_at")[:SHOWN]
    )


def _missing_processes() -> list[str]:
    """Return which of the product's own processes give no sign of life."""
    kinds: set[str] = set()
    served: set[str] = set()
    for kind, queues in Heartbeat.objects.alive().values_list("kind", "queues"):
        kinds.add(kind)
        served.update(queues)
    missing = [f"workers for {queue}" for queue in settings.WORK_QUEUES if queue not in served]
    return [*missing, *([] if "beat" in kinds else ["beat"])]


def first_id(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of `moment`, so that an index on ids serves as one on time."""
    milliseconds = int(moment.astimezone(UTC).timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (0x2 << 62))
