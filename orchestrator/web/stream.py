"""One connection of Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from orchestrator.web.wire import gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from orchestrator.web.wire import Receive, Send

KEEP_ALIVE_SECONDS = 15.0
FAREWELL_SECONDS = 0.5
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


def message(event: str, data: str, sequence: int | None = None) -> bytes:
    """Return one event of the stream. `data` is one line."""
    identity = "" if sequence is None else f"id: {sequence}\n"
    return f"{identity}event: {event}\ndata: {data}\n\n".encode()


async def serve(
    receive: Receive, send: Send, chunks: AsyncIterator[bytes], *ends: Awaitable[object]
) -> None:
    """Send `chunks` until they end, the client leaves, or any of `ends` comes to pass.

    A client that reads too slowly holds nobody up but itself, and cannot put off the end.
    """
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    tasks = [asyncio.ensure_future(task) for task in (_pump(send, chunks), gone(receive), *ends)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), FAREWELL_SECONDS)
    if tasks[0] in done and (error := tasks[0].exception()):
        raise error


async def _pump(send: Send, chunks: AsyncIterator[bytes]) -> None:
    await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
    following = asyncio.ensure_future(anext(chunks, None))
    try:
        while True:
            await asyncio.wait([following], timeout=KEEP_ALIVE_SECONDS)
            chunk: bytes | None = b": still here\n\n"
            if following.done():
                chunk = following.result()
                if chunk is None:
                    return
                following = asyncio.ensure_future(anext(chunks, None))
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        following.cancel()
