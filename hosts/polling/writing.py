"""Writing what a poll found: probes many at a time, changes of health and inventories singly."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction

from hosts import inventory
from hosts.drivers.base import HostError
from hosts.health import Vitals, settle
from hosts.lifecycle import Listing
from hosts.models import HostStatus
from hosts.polling.asking import INVENTORY_SECONDS, Listed, Probed
from hosts.polling.claims import UNREADABLE
from orchestrator.db.clock import database_now

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import Field

    from hosts.models import Host
    from hosts.polling.asking import Answer
    from hosts.polling.claims import Shard

log = structlog.get_logger(__name__)

# An inventory under way is not begun again for this long, should its worker be lost.
INVENTORY_LEASE_SECONDS = INVENTORY_SECONDS + 30
UNDECIDED_SECONDS = 1.0

_UPDATE = """
UPDATE hosts_hoststatus AS s SET
    failures = v.column2,
    failing = v.column3,
    successes = v.column4,
    latency_ms = COALESCE({latency}, s.latency_ms),
    last_seen_at = COALESCE({seen}, s.last_seen_at),
    next_poll_at = CASE WHEN s.next_poll_at > %s THEN s.next_poll_at ELSE {next_poll} END,
    inventory_due_at = CASE WHEN s.inventory_due_at <= %s
        THEN COALESCE({inventory_due}, s.inventory_due_at) ELSE s.inventory_due_at END,
    poll_claim = NULL,
    poll_until = NULL
FROM (VALUES {rows}) AS v
WHERE s.host_id = v.column1 AND s.poll_claim = %s
RETURNING host_id
"""


@dataclass(frozen=True)
class Finding:
    """A probe and what it makes of its host."""

    probed: Probed
    after: Vitals

    @classmethod
    def of(cls, probed: Probed) -> Finding:
        vitals = probed.due.vitals
        if probed.error is None:
            return cls(probed, vitals.answered())
        return cls(probed, vitals.failed(probed.error, probed.times))

    @property
    def host(self) -> Host:
        return self.probed.due.host


def write(shard: Shard, answers: list[Answer]) -> None:
    """Write a wave of answers. What cannot be written of one host is logged; the rest is kept."""
    _write_probes(shard, [answer for answer in answers if isinstance(answer, Probed)])
    for answer in answers:
        if isinstance(answer, Listed):
            _write_inventory(answer)


def give_up_unreadable(shard: Shard) -> None:
    """Show why hosts without readable credentials are not asked."""
    for host in shard.unreadable:
        HostStatus.objects.filter(pk=host.pk, poll_claim=shard.claim).update(
            next_poll_at=_next_poll(database_now()), poll_claim=None, poll_until=None
        )
        _note(host, UNREADABLE)


def _write_probes(shard: Shard, probes: list[Probed]) -> None:
    findings = sorted(map(Finding.of, probes), key=lambda finding: finding.host.pk)
    try:
        written = _update(shard, findings)
    except Exception:  # one value that the database does not take must not cost the others theirs
        log.exception("poll.wave_not_written", hosts=len(findings))
        written = set()
        for finding in findings:
            try:
                written |= _update(shard, [finding])
            except Exception:
                log.exception("poll.not_written", host_id=str(finding.host.pk))
    for finding in findings:
        if finding.host.pk in written:
            try:
                settle(finding.host, finding.probed.due.vitals, finding.after)
            except Exception:  # the next poll finds the same and tries again
                log.exception("poll.health_not_written", host_id=str(finding.host.pk))


def _update(shard: Shard, findings: list[Finding]) -> set[UUID]:
    """Write the probes in one statement; return the hosts that this tick still had.

    A time that somebody else set since the claim (an inventory that was asked for) is kept.
    """
    if not findings:
        return set()
    now, began_at = database_now(), shard.clock.looked_at
    values: list[Any] = []
    for finding in findings:
        probed = finding.probed
        answered = probed.error is None
        values += [
            _prepared("host", finding.host.pk),
            finding.after.failures,
            str(finding.after.failing),
            finding.after.successes,
            probed.latency_ms,
            _prepared("last_seen_at", now if answered else None),
            _prepared("next_poll_at", _next_look(finding, now)),
            _prepared(
                "inventory_due_at",
                now + timedelta(seconds=INVENTORY_LEASE_SECONDS)
                if probed.inventory_follows
                else None,
            ),
        ]
    row = f"({', '.join(['%s'] * 8)})"
    sql = _UPDATE.format(
        latency=_typed("v.column5", "double precision"),
        seen=_typed("v.column6", "timestamptz"),
        next_poll=_typed("v.column7", "timestamptz"),
        inventory_due=_typed("v.column8", "timestamptz"),
        rows=", ".join([row] * len(findings)),
    )
    parameters = [
        _prepared("next_poll_at", began_at),
        _prepared("inventory_due_at", began_at),
        *values,
        _prepared("poll_claim", shard.claim),
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return {UUID(str(host_id)) for (host_id,) in cursor.fetchall()}


def _typed(column: str, kind: str) -> str:
    """PostgreSQL takes a column of nulls for text; SQLite has no such types and needs none."""
    return f"CAST({column} AS {kind})" if connection.vendor == "postgresql" else column


def _prepared(name: str, value: Any) -> Any:
    field: Field[Any, Any] = HostStatus._meta.get_field(name)  # type: ignore[assignment]
    return field.get_db_prep_value(value, connection)


def _next_look(finding: Finding, now: datetime) -> datetime:
    """Return when to poll again: at once to confirm what is new, but no host is hammered that
    answers differently each time.
    """
    if not finding.after.unsettled:
        return _next_poll(now)
    if not finding.probed.due.vitals.unsettled:
        return now
    return now + timedelta(seconds=min(UNDECIDED_SECONDS, settings.HOST_POLL_SECONDS))


def _next_poll(now: datetime) -> datetime:
    """Return when a host without news is polled again, spread a little."""
    return now + timedelta(seconds=settings.HOST_POLL_SECONDS * random.uniform(0.95, 1.05))


def _write_inventory(listed: Listed) -> None:
    host = listed.due.host
    try:
        if isinstance(listed.outcome, HostError):
            inventory.note_failure(host, listed.outcome)
        else:
            inventory.record(host, Listing(listed.began_at, listed.outcome))
    except Exception:
        log.exception("poll.inventory_not_written", host_id=str(host.pk))
        _note(host, inventory.NOT_STORED)


def _note(host: Host, problem: str) -> None:
    try:
        inventory.note_failure(host, problem)
    except Exception:
        log.exception("poll.problem_not_written", host_id=str(host.pk))
