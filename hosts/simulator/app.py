"""The ASGI application: finds the host, lets faults strike, sends the answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from hosts.simulator import api, control, hub
from hosts.simulator.faults import break_json, break_types
from hosts.simulator.wire import Answer, DropError, Receive, Request, cut, error_body
from hosts.simulator.world import Host, World

Send = Callable[[dict[str, Any]], Awaitable[None]]

_SERVER_FAULT = "error 500: the simulated host has a fault"


class Simulator:
    """Serves every host of a world, and the control API beside them.

    The server puts the connection's ``transport`` into ``scope["state"]``, and ``host`` (k) when
    the connection came in on a host's own address.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._dates: dict[int, bytes] = {}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; a cancelled or dropped one ends without an answer."""
        if scope["type"] == "websocket":
            await self._subscribe(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        transport: asyncio.Transport = scope["state"]["transport"]
        try:
            await self._answer(scope, receive, send, transport)
        except (DropError, asyncio.CancelledError):
            cut(transport)
            while (await receive())["type"] != "http.disconnect":
                pass

    async def _subscribe(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve the events hub of a host that can be reached; cut everything else."""
        transport: asyncio.Transport = scope["state"]["transport"]
        path, k = scope["path"], scope["state"].get("host")
        if k is None:
            _prefix, k, path = _split(path)
        host = self.world.hosts.get(k)
        if host is None or not host.is_up or host.hangs or path not in hub.PATHS:
            cut(transport)
            return
        host.open_requests.add(transport)
        try:
            await hub.serve(Request(host, "GET", path, scope, receive, transport), receive, send)
        finally:
            host.open_requests.discard(transport)

    async def _answer(
        self, scope: dict[str, Any], receive: Receive, send: Send, transport: asyncio.Transport
    ) -> None:
        path: str = scope["path"]
        k: int | None = scope["state"].get("host")
        if k is None and (path == "/control" or path.startswith("/control/")):
            body = await _read(receive)
            status, record = control.handle(self.world, scope["method"], path, body)
            await self.world.on_change()
            return await self._send(send, status, json.dumps(record).encode(), time.time())
        prefix = ""
        if k is None:
            prefix, k, path = _split(path)
        host = self.world.hosts.get(k)
        if host is None:
            body = json.dumps(error_body(404, f"resource {scope['path']} not found")).encode()
            return await self._send(send, 404, body, time.time())
        request = Request(host, scope["method"], path, scope, receive, transport)
        host.open_requests.add(transport)
        try:
            answer = await _host_answer(host, request)
        finally:
            host.open_requests.discard(transport)
        body = _encode(answer)
        if body and answer.status < 300:
            is_json = answer.content_type == "application/json"
            if is_json and host.strikes("badjson"):
                body = break_json(body)
            elif is_json and host.strikes("wrongtype"):
                body = break_types(body)
        location = prefix + answer.location if answer.location else ""
        if location and scope["query_string"]:
            location += "?" + scope["query_string"].decode("latin-1")
        return await self._send(
            send, answer.status, body, host.now(), location, answer.content_type
        )

    async def _send(
        self,
        send: Send,
        status: int,
        body: bytes,
        now: float,
        location: str = "",
        content_type: str = "application/json",
    ) -> None:
        headers = [(b"date", self._date(int(now)))]
        if body:
            headers.append((b"content-type", content_type.encode()))
        if status != 204:
            headers.append((b"content-length", str(len(body)).encode()))
        if location:
            headers.append((b"location", location.encode("latin-1", "replace")))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _date(self, second: int) -> bytes:
        """Return the Date header of a clock; hosts with the same clock share it for a second."""
        if second not in self._dates:
            if len(self._dates) > 1000:
                self._dates.clear()
            self._dates[second] = formatdate(second, usegmt=True).encode()
        return self._dates[second]


async def _host_answer(host: Host, request: Request) -> Answer:
    """Answer for one host; raises ``DropError`` when no byte may be answered."""
    if not host.is_up:
        raise DropError
    if host.hangs:
        host.count("hung")
        await request.gone()
        raise DropError
    delay = host.latency_ms / 1000
    if host.strikes("slow"):
        delay += host.slow_seconds
    if delay:
        await asyncio.sleep(delay)
    if host.strikes("error500"):
        host.count("error500")
        return Answer(500, error_body(500, _SERVER_FAULT))
    answer = await api.answer(request)
    if not host.is_up:  # it went down while the request waited
        raise DropError
    return answer


def _split(path: str) -> tuple[str, int, str]:
    """Split ``/h/<k>/rest`` into prefix, k and ``/rest``; k is 0, which is no host, if it is not.

    Raises nothing: the caller answers 404 for a host that does not exist.
    """
    parts = path.split("/", 3)
    if len(parts) < 3 or parts[0] or parts[1] != "h" or not parts[2].isdecimal():
        return "", 0, path
    rest = "/" + parts[3] if len(parts) == 4 else "/"
    return f"/h/{parts[2]}", int(parts[2]), rest


def _encode(answer: Answer) -> bytes:
    if answer.body is None:
        return b""
    return answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DropError
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
