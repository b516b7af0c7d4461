"""Passing on what hosts tell of themselves: their load, their log, what their proxy forwards.

It goes to whoever listens at this moment; see `orchestrator.web.fleeting`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.web.fleeting import HOSTS, Sender

if TYPE_CHECKING:
    from uuid import UUID

    from hosts.drivers.base import Report

A_SECOND = 20  # reports of one host; a busy proxy tells of every request
AT_ONCE = 100


@dataclass
class Allowance:
    """How much one host may tell now. What is more is lost, and others hear all the same."""

    left: float
    at: float

    def takes_one(self, now: float) -> bool:
        self.left = min(AT_ONCE, self.left + (now - self.at) * A_SECOND)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Passing:
    """Takes reports in the event loop that follows the hosts, and blocks it never."""

    def __init__(self) -> None:
        self._sender = Sender(HOSTS)
        self._allowed: dict[UUID, Allowance] = {}

    def on(self, host_id: UUID, report: Report) -> None:
        """Pass on what a host told."""
        if not self._sender.is_heard:
            return
        now = time.monotonic()
        allowed = self._allowed.setdefault(host_id, Allowance(AT_ONCE, now))
        if allowed.takes_one(now):
            told = {"host": str(host_id), "topic": report.topic, "name": report.name}
            self._sender.offer(json.dumps(told | {"body": dict(report.body)}))

    def forget(self, host_id: UUID) -> None:
        self._allowed.pop(host_id, None)
