"""Who is on the sockets of all our processes, each of which says every moment who is on its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import redis
import structlog

from compat.events.guard import Watcher
from compat.wire.answers import rfc3339
from orchestrator.refusals import Conflict
from orchestrator.web import wake

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actors import Actor
    from compat.events.socket import Socket

log = structlog.get_logger(__name__)

PREFIX = "orchestrator:sockets:"
SAY_SECONDS = 2.0
GOOD_SECONDS = 10  # what a process that died has said is told no longer


class Presence:
    """Says for one process who is on its sockets, while anybody is."""

    def __init__(self, sockets: Callable[[], list[Socket]]) -> None:
        self._sockets = sockets
        self._key = f"{PREFIX}{uuid4()}"
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """Say it at once, for somebody came or went."""
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="socket-presence")

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            rows = [_shown(socket) for socket in self._sockets()]
            try:
                await asyncio.to_thread(self._say, rows)
            except redis.RedisError as error:
                log.info("hub.presence_lost", error=type(error).__name__)
            if not rows and not self._changed.is_set():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), SAY_SECONDS)

    def _say(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            wake.client().set(self._key, json.dumps(rows), ex=GOOD_SECONDS)
        else:
            wake.client().delete(self._key)


def _shown(socket: Socket) -> dict[str, Any]:
    watcher: Watcher = socket.watcher
    user, token = watcher.who or (None, None)
    return {
        "id": socket.id,
        "user_id": str(watcher.user_id),
        "username": user.username if user else "",
        "token": token.name if token else "",
        "address": watcher.credentials.address,
        "subscriptions": sorted(socket.types),
        "connected_at": rfc3339(socket.connected_at),
        "messages_sent": socket.sent,
        "messages_dropped": socket.dropped,
    }


def connected(actor: Actor) -> list[dict[str, Any]]:
    """Return who is connected to the hub, in any process, as of a few seconds ago.

    Needs `accounts.view`. Raises `Conflict` while Redis is away.
    """
    actor.require("accounts.view")
    try:
        client = wake.client()
        keys = list(client.scan_iter(match=f"{PREFIX}*", count=500))
        said = client.mget(keys) if keys else []
    except redis.RedisError:
        raise Conflict(
            "Who is connected is not known now: Redis does not answer. Try again soon."
        ) from None
    rows = [row for text in said if text for row in json.loads(text)]
    return sorted(rows, key=lambda row: (row["connected_at"], row["id"]))


def counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers of what `connected` returned."""
    types = Counter(one for row in rows for one in row["subscriptions"])
    return {
        "total_clients": len(rows),
        "total_users": len({row["user_id"] for row in rows}),
        "total_subscriptions": types.total(),
        "type_stats": dict(sorted(types.items())),
        "messages_sent": sum(row["messages_sent"] for row in rows),
        "messages_dropped": sum(row["messages_dropped"] for row in rows),
    }
