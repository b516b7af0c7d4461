"""The WebSockets of the compatible API: the events hub, and the log of a host as it grows.

A socket is opened with the credentials of any other call, which are looked at again each second:
what ends them ends the socket. What is sent waits in a bounded queue, so that a client that reads
too slowly loses messages and holds nobody up. Nothing is sent again after a reconnection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import structlog

from compat.events.guard import SocketGuard, Watcher, is_own_origin
from compat.events.logs import follow
from compat.events.messages import TYPES, Translator, message
from compat.events.present import Presence
from compat.events.relayed import Relay
from compat.events.socket import ALWAYS, Socket
from compat.wire.answers import unauthorized
from compat.wire.paths import PREFIX, normal
from events.stream import KEPT, Checks, Reader
from orchestrator.web.wire import in_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestrator.web.wake import Hub
    from orchestrator.web.wire import Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

SUBSCRIBE = f"{PREFIX}/ws/subscribe"
LARGEST = 64 * 1024  # bytes of a message from a client
STATS_SECONDS = 5.0
UNSUBSCRIBE = "unsubscribe"  # the name of the wake-up, with client, account and types behind it
_POLICY, _GOING_AWAY = 1008, 1001


class EventsHub:
    """The ASGI application of these WebSockets."""

    def __init__(self, hub: Hub, maximum: int) -> None:
        self.maximum = maximum
        self.open = 0
        self.closing = asyncio.Event()
        self._guard = SocketGuard()
        self._reader = Reader(hub)
        self._checks = Checks(self._guard)
        self._sockets: dict[str, Socket] = {}
        self._relay = Relay(self._all)
        self._presence = Presence(self._all)
        hub.listen(self._on_wake)

    def _all(self) -> list[Socket]:
        return list(self._sockets.values())

    def _on_wake(self, name: str) -> None:
        kind, _, rest = name.partition(":")
        if kind == UNSUBSCRIBE and rest.count(":") == 2:
            client_id, user_id, types = rest.split(":")
            socket = self._sockets.get(client_id)
            if socket and str(socket.watcher.user_id) == user_id:
                socket.unsubscribe(types.split(","))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # the wish to connect
        path = normal(scope["path"]) or ""
        host = _host_of_log(path)
        if path != SUBSCRIBE and not host:
            await send({"type": "websocket.close", "code": _POLICY})
            return
        if not is_own_origin(scope):
            await _refuse(scope, send, 401, "Pages of this origin may not connect.")
            return
        if self.open >= self.maximum or self.closing.is_set():
            await _refuse(scope, send, 503, "Too many sockets are open. Try again soon.")
            return
        self.open += 1
        try:
            await self._serve(scope, receive, send, host)
        finally:
            self.open -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send, host: str) -> None:
        try:
            watcher = await in_database(lambda: self._guard.identify(scope, tokens=True))
        except Exception as error:
            log.warning("hub.store_away", error=type(error).__name__)
            await _refuse(scope, send, 503, "The database does not answer. Try again soon.")
            return
        if watcher is None:
            await _refuse(scope, send, 401, "Send a live token, in the header or the query.")
            return
        if host:
            if "hosts.logs" not in watcher.permissions:
                await _refuse(scope, send, 401, "Your roles do not let you read the logs of hosts.")
                return
            await self._connect(watcher, receive, send, follow(watcher, host), None)
            return
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("event_types", [""])
        wanted = {one.strip().lower() for text in asked for one in text.split(",")}
        socket = Socket(watcher, frozenset(wanted & set(TYPES)) | ALWAYS)
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._reader.watching())
            except Exception as error:
                log.warning("hub.store_away", error=type(error).__name__)
                await _refuse(scope, send, 503, "The database does not answer. Try again soon.")
                return
            told = {"client_id": socket.id, "subscriptions": sorted(socket.types)}
            text = "WebSocket connection established; subscribed to global by default"
            socket.put(message("global", text, told, client_id=socket.id))
            stack.callback(self._presence.changed)
            self._sockets[socket.id] = socket
            stack.callback(self._sockets.pop, socket.id)
            self._presence.changed()
            stack.enter_context(self._relay.for_types(socket.types))
            await self._connect(watcher, receive, send, None, socket)

    async def _connect(
        self,
        watcher: Watcher,
        receive: Receive,
        send: Send,
        lines: AsyncIterator[str] | None,
        socket: Socket | None,
    ) -> None:
        """Accept, and go on until the client leaves, its credentials end or the process does."""
        await send({"type": "websocket.accept"})
        with self._checks.of(watcher):
            work = [_receive(receive, socket), watcher.ended.wait(), self.closing.wait()]
            if socket:
                work += [socket.send_all(send), self._tell(socket), _tell_stats(socket)]
            if lines:
                work.append(_send_lines(send, lines))
            tasks = [asyncio.ensure_future(one) for one in work]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if tasks[0] in done:
            return  # the client left
        code = _GOING_AWAY if self.closing.is_set() else _POLICY
        with contextlib.suppress(Exception):
            await asyncio.wait_for(send({"type": "websocket.close", "code": code}), 0.5)

    async def _tell(self, socket: Socket) -> None:
        """Queue what happens from now on. After a gap it goes on with what is new."""
        cursor, translator = self._reader.head, Translator()
        while True:
            changed = asyncio.ensure_future(self._reader.changed())
            try:
                events = await self._reader.behind(cursor, KEPT)
                if events is None:
                    cursor = self._reader.head
                elif events:
                    cursor = events[-1].sequence or cursor
                    try:
                        told = await in_database(
                            translator.translate, socket.watcher.actor(), events, socket.types
                        )
                    except Exception as error:  # the store is away: these are lost
                        log.warning("hub.translate_failed", error=type(error).__name__)
                        continue
                    for one in told:
                        socket.put(one)
                else:
                    await changed
            finally:
                changed.cancel()


async def _receive(receive: Receive, socket: Socket | None) -> None:
    """Answer what the client sends, until it leaves."""
    while True:
        said: Message = await receive()
        if said["type"] == "websocket.disconnect":
            return
        text = said.get("text") or ""
        if socket and text and len(text) <= LARGEST:
            socket.answer(text)


async def _tell_stats(socket: Socket) -> None:
    """Tell those who run the pool how this process fares."""
    before = time.process_time()
    while True:
        await asyncio.sleep(STATS_SECONDS)
        now = time.process_time()
        if "stats" in socket.types and "hosts.view" in socket.watcher.permissions:
            socket.put(message("stats", "System Stats", _stats((now - before) / STATS_SECONDS)))
        before = now


def _stats(share: float) -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    threads = threading.active_count()
    return {
        "memory_bytes": used.ru_maxrss * 1024,
        "memory_alloc_bytes": used.ru_maxrss * 1024,
        "cpu_user_seconds": used.ru_utime,
        "cpu_system_seconds": used.ru_stime,
        "cpu_percent": round(share * 100, 1),
        "goroutines": threads,
        "goroutines_smoothed": threads,
    }


async def _send_lines(send: Send, lines: AsyncIterator[str]) -> None:
    async for line in lines:
        await send({"type": "websocket.send", "text": line})


def _host_of_log(path: str) -> str:
    """Return the host whose log a path means; empty for other paths."""
    parts = path.removeprefix(PREFIX).strip("/").split("/")
    fits = len(parts) == 5 and parts[:2] == ["orchestrator", "hosts"]
    return parts[2] if fits and parts[3:] == ["logs", "stream"] else ""


async def _refuse(scope: Scope, send: Send, status: int, text: str) -> None:
    """Refuse to open a socket, with a status where the server can tell one."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": _POLICY})
        return
    body = json.dumps(unauthorized(text) if status == 401 else {"message": text, "code": status})
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    start = {"type": "websocket.http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body.encode()})
