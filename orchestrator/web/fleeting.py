"""What is told to whoever listens at this moment, through Redis, and to nobody later.

A process offers texts to a channel; while nobody listens there they cost nearly nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress

import redis

from orchestrator.web import wake

HOSTS = "orchestrator:hosts"  # what hosts say of themselves
LOGS = "orchestrator:logs"  # lines of our own processes' logs
WAITING = 1000  # texts that a process has ready; what is more is lost
SILENCE_SECONDS = 1.0  # after a text that nobody heard


class Sender:
    """Hands texts to a channel, from a thread of its own. It blocks nobody and raises nothing."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._waiting: queue.Queue[str] = queue.Queue(WAITING)
        self._silent_until = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_heard(self) -> bool:
        """Return whether somebody may listen: a moment ago nobody did if it is False."""
        return time.monotonic() >= self._silent_until

    def offer(self, text: str) -> None:
        """Tell `text`; it is lost when nobody listens, or too many wait."""
        if not self.is_heard:
            return
        with suppress(queue.Full):
            self._waiting.put_nowait(text)
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # a fork has no threads
                self._thread = threading.Thread(target=self._run, name="fleeting", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            text = self._waiting.get()
            try:
                heard = wake.client().publish(self._channel, text)
            except redis.RedisError:
                heard = 0
            if not heard:
                self._silent_until = time.monotonic() + SILENCE_SECONDS
                with suppress(queue.Empty):
                    while True:
                        self._waiting.get_nowait()
