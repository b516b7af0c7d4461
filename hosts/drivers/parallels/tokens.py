"""Tokens of hosts, kept for the whole process: a login costs the host a password hash."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hosts.drivers.base import Connection

_MARGIN_SECONDS = 30.0
"""A token is renewed this long before its end, so that it does not end on its way."""
_LEAST_SECONDS = 5.0


class TokenCache:
    """Tokens by connection: another password or URL never meets an old one. Thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything; in a forked child, locks may be held by threads that are gone."""
        self._lock = threading.Lock()
        self._tokens: dict[Connection, tuple[str, float]] = {}
        self._logins: dict[Connection, threading.Lock] = {}

    def get(self, connection: Connection) -> str | None:
        """The token to use now, or None when a login is due."""
        with self._lock:
            token, until = self._tokens.get(connection, (None, 0.0))
        return token if token and time.monotonic() < until else None

    def put(self, connection: Connection, token: str, lifetime_seconds: float) -> None:
        """Keep a token. A host with a wrong clock and no Date gives past ends; a 401 tells then."""
        now = time.monotonic()
        with self._lock:
            self._tokens = {key: kept for key, kept in self._tokens.items() if kept[1] > now}
            until = now + max(lifetime_seconds - _MARGIN_SECONDS, _LEAST_SECONDS)
            self._tokens[connection] = (token, until)

    def drop(self, connection: Connection, token: str) -> None:
        """Forget a token the host refused, unless another thread has a newer one already."""
        with self._lock:
            if self._tokens.get(connection, ("", 0.0))[0] == token:
                del self._tokens[connection]

    @contextmanager
    def one_login(self, connection: Connection, patience_seconds: float) -> Iterator[None]:
        """Let threads that need the same token wait for the one that fetches it, for a while."""
        with self._lock:
            login = self._logins.setdefault(connection, threading.Lock())
        held = login.acquire(timeout=patience_seconds)
        try:
            yield
        finally:
            if held:
                login.release()


tokens = TokenCache()
os.register_at_fork(after_in_child=tokens.reset)
