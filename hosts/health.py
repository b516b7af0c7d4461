"""A host's health: what each observation makes of it, and storing a change of it.

A change needs two observations that agree (a new host's first good answer is enough), so that a
lost packet moves nobody's VMs. Refused, silent and wrong answers do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from events.publishing import publish
from hosts import lifecycle
from hosts.drivers.base import ErrorKind
from hosts.models import Health, HostHealthChange, HostStatus

if TYPE_CHECKING:
    from hosts.drivers.base import Hardware, HostError
    from hosts.models import Host

CONFIRMED = 2  # observations in a row
MIXED = 3  # failures in a row, of whatever kind, that end the health of a host
REASON_LENGTH = 300


class Sign(StrEnum):
    """In which way a host fails."""

    GONE = "gone"  # nothing takes the connection
    SILENT = "silent"  # nothing answers in time
    WRONG = "wrong"  # it answers an error, or something that it should not


_SIGNS = {
    ErrorKind.REFUSED: Sign.GONE,
    ErrorKind.NAME_NOT_FOUND: Sign.GONE,
    ErrorKind.DISCONNECTED: Sign.GONE,
    ErrorKind.TIMEOUT: Sign.SILENT,
}


def sign_of(error: HostError) -> Sign:
    return _SIGNS.get(error.kind, Sign.WRONG)


@dataclass(frozen=True)
class Vitals:
    """Health with what the next observation is weighed against. `problem` is a failing check."""

    health: str
    reason: str = ""
    failing: str = ""
    failures: int = 0
    successes: int = 0
    problem: str = ""

    @classmethod
    def of(cls, status: HostStatus) -> Vitals:
        return cls(
            health=status.health,
            reason=status.reason,
            failing=status.failing,
            failures=status.failures,
            successes=status.successes,
            problem=status.inventory_problem,
        )

    @property
    def unsettled(self) -> bool:
        """Whether the next observation decides, so that it should be made at once."""
        if self.failing:
            return not self._blamed
        return self.health not in (Health.NEW, Health.HEALTHY) and self.successes < CONFIRMED

    @property
    def _blamed(self) -> bool:
        wanted = Health.DEGRADED if self.failing == Sign.WRONG else Health.UNREACHABLE
        return self.health == wanted and self.failures >= CONFIRMED

    def answered(self) -> Vitals:
        """Return what a good answer to a probe makes of it."""
        seen = replace(self, failing="", failures=0, successes=self.successes + 1)
        if self.health in (Health.NEW, Health.HEALTHY) or seen.successes >= CONFIRMED:
            return seen._answering()
        return seen

    def failed(self, error: HostError, times: int = 1) -> Vitals:
        """Return what a failed probe makes of it, tried `times` times with the same end."""
        sign = sign_of(error)
        seen = replace(self, failing=sign, failures=self.failures + times, successes=0)
        same = times if sign != self.failing else self.failures + times
        mixed = self.health in (Health.NEW, Health.HEALTHY) and seen.failures >= MIXED
        if same < CONFIRMED and not mixed:
            return seen
        health = Health.DEGRADED if sign == Sign.WRONG else Health.UNREACHABLE
        return replace(seen, health=health, reason=error.message[:REASON_LENGTH])

    def checked(self, problem: str) -> Vitals:
        """Return what an inventory makes of it: `problem` is its failing check, or empty.

        An inventory neither introduces a host nor brings one back; probes do.
        """
        seen = replace(self, problem=problem[:REASON_LENGTH])
        settled = self.health == Health.DEGRADED and self.successes >= CONFIRMED
        return seen._answering() if settled or self.health == Health.HEALTHY else seen

    def _answering(self) -> Vitals:
        health = Health.DEGRADED if self.problem else Health.HEALTHY
        return replace(self, health=health, reason=self.problem)


def failing_check(hardware: Hardware) -> str:
    """Return the sentence of the first check that the host fails, or an empty text."""
    if not hardware.desktop_version:
        return "Parallels Desktop is not installed on the host. Install it there."
    if not hardware.licensed:
        return "Parallels Desktop has no valid licence on the host. Activate one there."
    offset = hardware.clock_offset_seconds
    if offset is not None and abs(offset) > settings.HOST_CLOCK_TOLERANCE_SECONDS:
        side = "ahead of" if offset > 0 else "behind"
        # Coarsely, because each look measures it a little differently and would be news.
        coarse = f"{abs(offset) / 60:.0f} minutes" if abs(offset) >= 90 else "a minute"
        return (
            f"The clock of the host is about {coarse} {side} ours. "
            "Turn on time synchronisation there."
        )
    return ""


def settle(host: Host, before: Vitals, after: Vitals) -> bool:
    """Store a changed health or reason and tell of it, unless somebody else did meanwhile.

    Returns whether this call changed it. Runs the rooms' entries in the transaction of the change.
    """
    if (before.health, before.reason) == (after.health, after.reason):
        return False
    moved = before.health != after.health
    with transaction.atomic():
        status = HostStatus.objects.filter(pk=host.pk, health=before.health)
        stamp = {"changed_at": Now()} if moved else {}
        if not status.update(health=after.health, reason=after.reason, **stamp):
            return False
        told = {"name": host.name, "health": after.health, "reason": after.reason}
        if not moved:
            publish("host.changed", f"host:{host.pk}", told, permission="hosts.view")
            return True
        HostHealthChange.objects.create(host=host, health=after.health, reason=after.reason)
        publish(
            "host.health",
            f"host:{host.pk}",
            {**told, "before": before.health},
            permission="hosts.view",
        )
        for entry in lifecycle.on_health_change:
            entry(host, before.health, after.health)
        if after.health == Health.HEALTHY:
            lifecycle.tell_available(host)
    return True
