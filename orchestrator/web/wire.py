"""Small tools of the ASGI front: headers, short answers, database work in threads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar

from django.db import connections

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]
Result = TypeVar("Result")

# For what the front itself asks the database. Not the threads of requests, so that busy requests
# never delay streams and held calls, nor the other way round.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="front")


async def in_database(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run `function` in a thread, and give its database connection back afterwards."""

    def run() -> Result:
        try:
            return function(*arguments)
        finally:
            connections.close_all()

    return await asyncio.get_running_loop().run_in_executor(_threads, run)


def header(headers: Headers, name: bytes) -> str:
    """Return the values of the header `name` (lower case), joined with commas; "" without it."""
    return ", ".join(value.decode("latin-1") for key, value in headers if key.lower() == name)


async def answer(
    send: Send,
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> None:
    """Send a whole answer."""
    length = (b"content-length", str(len(body)).encode())
    kept = [pair for pair in headers if pair[0].lower() != b"content-length"]
    await send({"type": "http.response.start", "status": status, "headers": [*kept, length]})
    await send({"type": "http.response.body", "body": body})


async def refuse(
    send: Send, status: int, detail: str, code: str, *extra: tuple[bytes, bytes]
) -> None:
    """Answer with an `application/problem+json` as the API does."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        *extra,
    ]
    await answer(send, status, headers, json.dumps(document).encode())


async def gone(receive: Receive) -> None:
    """Return when the client has closed its connection, reading away what else it sends."""
    while (await receive())["type"] != "http.disconnect":
        pass
