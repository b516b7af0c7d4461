"""The events hub of a host: a WebSocket that tells what happens (contract 2.9).

Nothing is replayed after a reconnect, and a client that reads too slowly loses events, as with the
original.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hosts.simulator import auth
from hosts.simulator.wire import Request, UnauthorizedError, rfc3339

if TYPE_CHECKING:
    from hosts.simulator.app import Send
    from hosts.simulator.wire import Receive
    from hosts.simulator.world import Host

PATHS = ("/api/v1/ws/subscribe", "/api/ws/subscribe")
TYPES = frozenset(
    {
        *("global", "pdfm", "system", "system_logs", "health", "orchestrator", "stats"),
        *("reverse_proxy", "catalog_cache", "job_manager", "auth"),
    }
)
QUEUE_LENGTH = 2048  # per client; what does not fit is dropped
STATS_SECONDS = 5.0


class Subscriber:
    """One client of one host."""

    def __init__(self, types: frozenset[str]) -> None:
        self.id = str(uuid4())
        self.types = types | {"global"}
        self.waiting: asyncio.Queue[str | None] = asyncio.Queue(QUEUE_LENGTH)

    def offer(self, text: str | None) -> None:
        """Queue a frame; None ends the connection."""
        with suppress(asyncio.QueueFull):
            self.waiting.put_nowait(text)


def tell(host: Host, event_type: str, message: str, body: dict[str, Any]) -> None:
    """Tell every subscriber of this type what happened on the host."""
    for one in () if host.hangs else host.subscribers or ():
        if event_type in one.types:
            one.offer(_frame(host, event_type, message, body=body))


def log(host: Host, text: str) -> None:
    """Write a line of the host's log, and tell it."""
    time = rfc3339(host.now())
    host.log.append(f"{time} INFO {text}")
    tell(host, "system_logs", "System Log", {"level": "info", "message": text, "time": time})


def drop(host: Host) -> None:
    """End every connection of the host."""
    for one in host.subscribers or ():
        one.offer(None)


async def serve(request: Request, receive: Receive, send: Send) -> None:
    """Serve one connection until either side ends it."""
    host = request.host
    await receive()  # websocket.connect
    status = _refusal(request)
    if status:
        host.count(f"ws_{status}")
        await send({"type": "websocket.http.response.start", "status": status, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})
        return
    host.count("ws_subscribe")
    await send({"type": "websocket.accept"})
    wanted = frozenset(request.query.get("event_types", "").split(",")) & TYPES
    one = Subscriber(wanted)
    host.subscribers = {*(host.subscribers or ()), one}
    text = "WebSocket connection established subscribed to global by default"
    told = {"client_id": one.id, "subscriptions": sorted(one.types)}
    one.offer(_frame(host, "global", text, body=told))
    beside = [asyncio.create_task(_listen(host, one, receive))]
    if "stats" in one.types:
        beside.append(asyncio.create_task(_tell_stats(host, one)))
    try:
        while (frame := await one.waiting.get()) is not None:
            await send({"type": "websocket.send", "text": frame})
        await send({"type": "websocket.close", "code": 1001})
    except (OSError, RuntimeError):
        pass  # the client is gone
    finally:
        for task in beside:
            task.cancel()
        host.subscribers = {other for other in host.subscribers if other is not one} or None


def _refusal(request: Request) -> int:
    """Return the status of a refused connection, else 0."""
    if not request.host.events:
        return 404
    try:
        auth.authenticate(request)
    except UnauthorizedError:
        return 401
    return 0


async def _tell_stats(host: Host, one: Subscriber) -> None:
    """Tell one client each few seconds what the host's own service takes: more with its VMs."""
    while True:
        if not host.hangs:
            one.offer(_frame(host, "stats", "System Stats", body=_stats(host)))
        await asyncio.sleep(STATS_SECONDS)


def _stats(host: Host) -> dict[str, Any]:
    running = sum(1 for _ in host.running())
    memory = (80 + 12 * len(host.vms)) * 1024 * 1024
    asked = sum((host.counters or {}).values())
    return {
        "memory_bytes": memory,
        "memory_alloc_bytes": memory // 2,
        "cpu_user_seconds": round(asked * 0.002, 3),
        "cpu_system_seconds": round(asked * 0.001, 3),
        "cpu_percent": round(min(100.0, 0.5 + 3.5 * running), 1),
        "goroutines": 40 + 2 * len(host.open_requests),
        "goroutines_smoothed": 40,
    }


async def _listen(host: Host, one: Subscriber, receive: Receive) -> None:
    """Answer the client's messages; its leaving ends the connection."""
    while (message := await receive())["type"] == "websocket.receive":
        try:
            said = json.loads(message.get("text") or "")
            kind, words, id_ = said["event_type"], said["message"], said.get("id")
        except (ValueError, TypeError, KeyError):
            continue
        if (kind, words) == ("health", "ping"):
            one.offer(_frame(host, "health", "pong", ref_id=id_, client_id=one.id))
        elif (kind, words) == ("system", "client-id"):
            one.offer(_frame(host, "system", "client-id", ref_id=id_, body={"client-id": one.id}))
    one.offer(None)


def _frame(host: Host, event_type: str, message: str, **more: Any) -> str:
    record = {
        "id": str(uuid4()),
        "event_type": event_type,
        "timestamp": rfc3339(host.now()),
        "message": message,
    }
    return json.dumps(record | {name: value for name, value in more.items() if value is not None})
