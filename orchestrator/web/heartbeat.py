"""Signs of life of workers and beat, for `/readyz`."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import structlog
from django.db import Error, connection

from orchestrator.web.models import Heartbeat

log = structlog.get_logger(__name__)

BEAT_SECONDS = 5.0
WAKE_SECONDS = 0.25  # until the first sign of life of a process that starts
# Beat has work each second; the broker being away slows a tick down, it does not stop it.
TICK_SECONDS = 15.0


class Pulse:
    """A thread that writes one process's row every few seconds until it is stopped."""

    def __init__(self, kind: str, name: str, queues: list[str] | None = None) -> None:
        self.kind = kind
        self.name = f"{name}:{os.getpid()}"[:200]
        self.queues = queues or []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and remove the row."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=BEAT_SECONDS)

    def is_alive(self) -> bool:
        """Return whether the process does its work. For a worker, running is enough."""
        return True

    def _run(self) -> None:
        self._write(Heartbeat.forget_old)
        while not self._ended.is_set():
            alive = self.is_alive()
            if alive:
                self._write(lambda: Heartbeat.note(self.name, self.kind, self.queues))
            self._ended.wait(BEAT_SECONDS if alive else WAKE_SECONDS)
        self._write(Heartbeat.objects.filter(pk=self.name).delete)

    def _write(self, statement: Any) -> None:
        try:
            statement()
        except Error as error:  # the store is away for a moment: the next beat tries again
            log.warning("heartbeat.not_written", error=type(error).__name__)
        finally:
            connection.close()


class Ticks(Pulse):
    """The pulse of a process that is alive only while something happens in it."""

    _last: float | None = None

    def note(self, *_: Any, **__: Any) -> None:
        """Note that something happened just now."""
        self._last = time.monotonic()

    def is_alive(self) -> bool:
        return self._last is not None and time.monotonic() - self._last < TICK_SECONDS
