"""One client of the hub."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.utils import timezone

from compat.events.messages import message

if TYPE_CHECKING:
    from compat.events.guard import Watcher
    from compat.events.relayed import Offer
    from orchestrator.web.wire import Send

QUEUE = 2048  # messages that wait for one client
ALWAYS = frozenset({"global"})  # what every client has subscribed to


class Socket:
    """One connection: what it has subscribed to, what waits to be sent, and how much was."""

    def __init__(self, watcher: Watcher, types: frozenset[str]) -> None:
        self.id = str(uuid4())
        self.watcher = watcher
        self.types = types
        self.connected_at = timezone.now()
        self.sent = 0
        self.dropped = 0
        self._waiting: asyncio.Queue[str] = asyncio.Queue(QUEUE)

    def put(self, told: dict[str, Any]) -> None:
        """Queue a message; when too many wait, it is lost."""
        self._put(json.dumps(told, default=str))

    def offer(self, offered: Offer) -> None:
        """Queue what is offered to all, if this one subscribed to it and may see it by now."""
        if offered.event_type in self.types and offered.permissions <= self.watcher.permissions:
            self._put(offered.text)

    def _put(self, text: str) -> None:
        try:
            self._waiting.put_nowait(text)
        except asyncio.QueueFull:
            self.dropped += 1

    async def send_all(self, send: Send) -> None:
        while True:
            await send({"type": "websocket.send", "text": await self._waiting.get()})
            self.sent += 1

    def answer(self, text: str) -> None:
        """Answer what the client says: a ping, the wish for its id, an end of subscriptions."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict):
            return
        ref_id = said.get("id") if isinstance(said.get("id"), str) else ""
        names = {"client_id": self.id, "ref_id": ref_id or ""}
        match said.get("event_type"), said.get("message"):
            case "health", "ping":
                self.put(message("health", "pong", **names))
            case "system", "client-id":
                self.put(message("system", "client-id", {"client-id": self.id}, **names))
            case _, "unsubscribe":
                types = said.get("event_types") or said.get("body")
                if isinstance(types, list):
                    self.unsubscribe(str(one) for one in types)

    def unsubscribe(self, types: Any) -> None:
        self.types = (self.types - set(types)) | ALWAYS
