"""`manage.py watch_hosts`: follow what hosts tell by themselves."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand

from hosts.watching import Watcher


class Command(BaseCommand):
    """Follow the events of hosts until a signal ends it.

    Any number may run: they share the hosts. Without one hosts are polled, and changes show later.
    """

    help = "Follow the events that hosts offer, so that changes show at once."
    requires_system_checks: list[str] = []

    def handle(self, *_: Any, **__: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        watcher = Watcher()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: watcher.stop())
        watcher.run()
