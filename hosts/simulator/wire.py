"""Requests, answers and errors on the wire (contract 1.3 and 2.0)."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from hosts.simulator.world import Host

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Receive = Callable[[], Awaitable[dict[str, Any]]]


class DropError(Exception):
    """End the connection without a byte of answer."""


class RefusedError(Exception):
    """An error answer. ``diagnostics`` picks the second of the contract's three shapes."""

    def __init__(self, status: int, message: str, *, diagnostics: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.diagnostics = diagnostics


class UnauthorizedError(Exception):
    """A 401 in the shape of the middlewares; without a text the body is ``null``."""


@dataclass(slots=True)
class Answer:
    """A status and a body: JSON to be, ready bytes, or ``None`` for an empty body."""

    status: int
    body: Any = None
    location: str = ""
    content_type: str = "application/json"


class Request:
    """One request to a host; the body is read when a handler asks for it."""

    __slots__ = ("_headers", "_receive", "args", "host", "method", "path", "query", "transport")

    def __init__(
        self,
        host: Host,
        method: str,
        path: str,
        scope: dict[str, Any],
        receive: Receive,
        transport: asyncio.Transport,
    ) -> None:
        self.host = host
        self.method = method
        self.path = path
        self.args: tuple[str, ...] = ()
        raw = scope["query_string"]
        self.query = dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive
        self.transport = transport

    def header(self, name: bytes) -> str | None:
        """Return a header by its lower-case name."""
        for key, value in self._headers:
            if key == name:
                return value.decode("latin-1")
        return None

    async def body(self) -> bytes:
        """Return the whole body; raises ``DropError`` when the client has gone away."""
        parts = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise DropError
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)

    async def fields(self, *, required: bool = True) -> Fields:
        """Return the fields of the request.

        A query string hides a JSON body (contract 2.0). Raises ``RefusedError`` 400 for an empty
        or unreadable body; an empty one is fine when nothing is required.
        """
        if self.query:
            return Fields(self.query)
        raw = await self.body()
        if not raw:
            if required:
                raise RefusedError(400, "Invalid request body: body is empty")
            return Fields({})
        kind = self.header(b"content-type") or ""
        if kind.startswith("application/x-www-form-urlencoded") and not raw.startswith(b"{"):
            return Fields(dict(parse_qsl(raw.decode("utf-8", "replace"))))
        try:
            data = json.loads(raw)
        except ValueError:
            raise RefusedError(400, "Invalid request body: it is not JSON") from None
        if not isinstance(data, dict):
            raise RefusedError(400, "Invalid request body: it is not an object")
        return Fields(data)

    async def gone(self) -> None:
        """Wait until the client has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Fields:
    """Access to a JSON object by Go's rules: keys match ignoring case, unknown keys are ignored.

    Every reader raises ``RefusedError`` 400 when a value has the wrong type, as Go's decoder does.
    """

    __slots__ = ("data",)

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def get(self, name: str) -> Any:
        """Return the value of a key, or ``None``."""
        if name in self.data:
            return self.data[name]
        for key, value in self.data.items():
            if key.lower() == name:
                return value
        return None

    def text(self, name: str) -> str:
        """Return a string, empty when it is missing."""
        value = self.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise RefusedError(400, f"Invalid request body: {name} must be a string")
        return value

    def needed(self, name: str, label: str) -> str:
        """Return a string that may not be empty."""
        value = self.text(name)
        if not value:
            raise RefusedError(400, f"Invalid request body: {label} cannot be empty")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean; forms and queries send it as text."""
        value = self.get(name)
        if isinstance(value, str):
            return value.lower() == "true"
        if value is not None and not isinstance(value, bool):
            raise RefusedError(400, f"Invalid request body: {name} must be a boolean")
        return bool(value)

    def inner(self, name: str) -> Fields | None:
        """Return a nested object."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise RefusedError(400, f"Invalid request body: {name} must be an object")
        return Fields(value)

    def rows(self, name: str) -> list[Fields]:
        """Return a list of objects."""
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            raise RefusedError(400, f"Invalid request body: {name} must be a list of objects")
        return [Fields(row) for row in value]


def cut(transport: asyncio.BaseTransport) -> None:
    """End a connection at once with a TCP reset: nothing that is still to be sent goes out."""
    if isinstance(transport, asyncio.WriteTransport):
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()


def rfc3339(moment: float) -> str:
    """Return a Unix time as RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def error_body(status: int, message: str) -> dict[str, Any]:
    """Return an ApiErrorResponse (contract 2.0, shape 1)."""
    return {"message": message, "code": status}


def diagnostics_body(status: int, message: str, operation: str, now: float) -> dict[str, Any]:
    """Return an ApiErrorDiagnosticsResponse (contract 2.0, shape 2)."""
    at = rfc3339(now)
    error = {
        "code": str(status),
        "message": message,
        "timestamp": at,
        "component": operation.rsplit("/", 1)[-1],
    }
    return {
        "message": message,
        "diagnostics": {
            "operation": operation,
            "start_time": at,
            "end_time": at,
            "path": [],
            "errors": [error],
            "warnings": [],
            "metadata": {},
        },
        "code": status,
    }
