"""`/packs/`: where hosts read packs that are passed on, and ask for the parts of an upload.

Packs are passed on in the event loop, so that a slow download holds no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

import structlog
from django.db import connections
from prometheus_client import Counter

from catalog import relay, uploading
from catalog.storage import CHUNK, StorageError, Trouble
from orchestrator.refusals import Refusal
from orchestrator.web.wire import answer, gone, header, refuse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from orchestrator.web.pace import Pace
    from orchestrator.web.wire import Receive, Scope, Send

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

CHECK_SECONDS = 2.0  # how soon a revocation ends a download
SMALLEST = 16 * 1024
RETRY = (b"retry-after", b"10")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")

sent = Counter("orchestrator_packs_sent_bytes", "Bytes of packs that were passed on to hosts.")

# What asks storages blocks, and must not hold up streams and held calls.
_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="packs")


async def _in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    return await asyncio.get_running_loop().run_in_executor(_threads, function, *arguments)


async def _with_database(function: Callable[..., Result], *arguments: Any) -> Result:
    def run() -> Result:
        try:
            return function(*arguments)
        finally:
            connections.close_all()

    return await _in_thread(run)


class RelayFront:
    """Sends packs; at most `maximum` at a time."""

    def __init__(self, pace: Pace, maximum: int) -> None:
        self.closing = asyncio.Event()
        self.open = 0
        self._pace = pace
        self._maximum = maximum

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(uploading.UPLOADS):
            await self._upload(scope, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            allow = (b"allow", b"GET, HEAD")
            await refuse(send, 405, "Read a pack with GET.", "method_not_allowed", allow)
            return
        if self.open >= self._maximum or self.closing.is_set():
            await refuse(send, 503, "Too many packs are being sent. Try again.", "busy", RETRY)
            return
        self.open += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self.open -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = scope["path"].removeprefix(relay.PATH).removesuffix("/")
        try:
            pack = await _with_database(relay.open_pack, token)
        except Refusal as refusal:
            await refuse(send, refusal.status, refusal.message, refusal.code)
            return
        try:
            await self._send(pack, scope, receive, send)
        finally:
            await _in_thread(pack.storage.close)

    async def _upload(self, scope: Scope, send: Send) -> None:
        """Answer with the parts of an upload (POST), or finish it (PUT)."""
        verb = {"POST": uploading.sheet, "PUT": uploading.finish}.get(scope["method"])
        if verb is None:
            allow = (b"allow", b"POST, PUT")
            await refuse(send, 405, "Ask with POST or PUT.", "method_not_allowed", allow)
            return
        token = scope["path"].removeprefix(uploading.UPLOADS).removesuffix("/")
        asked = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        try:
            found = await _with_database(verb, token, asked.get("size", ""), asked.get("md5", ""))
        except Refusal as refusal:
            await refuse(send, refusal.status, refusal.message, refusal.code)
            return
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        await answer(send, 200, headers, json.dumps(found).encode())

    async def _send(self, pack: relay.Relayed, scope: Scope, receive: Receive, send: Send) -> None:
        asked = header(scope["headers"], b"range")
        begin, end = _part(asked, pack.size)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"cache-control", b"no-store"),
            (b"accept-ranges", b"bytes"),
            (b"x-accel-buffering", b"no"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if asked and begin >= pack.size:
            span = (b"content-range", f"bytes */{pack.size}".encode())
            await answer(send, 416, [*headers, span], b"")
            return
        status = 200
        if (begin, end) != (0, pack.size):
            status = 206
            headers.append((b"content-range", f"bytes {begin}-{end - 1}/{pack.size}".encode()))
        headers.append((b"content-length", str(end - begin).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        tasks = [
            asyncio.ensure_future(task)
            for task in (self._pump(pack, begin, end, send), gone(receive), self.closing.wait())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        error = results[0]
        if isinstance(error, (Refusal, StorageError)):
            # Too late for another status: the connection ends, and the host asks again.
            log.info("packs.ended", key=pack.key, reason=str(error))
        elif isinstance(error, Exception):
            raise error

    async def _pump(self, pack: relay.Relayed, begin: int, end: int, send: Send) -> None:
        checked = time.monotonic()
        # Small enough that many who share a pace wait shortly for their turns.
        step = min(CHUNK, max(SMALLEST, pack.rate // 64))
        async with contextlib.aclosing(_pieces(pack, begin, end, step)) as pieces:
            async for piece in pieces:
                wait = await self._pace.turn(pack.pace, len(piece), pack.rate)
                if wait > 0:
                    await asyncio.sleep(wait)
                if time.monotonic() - checked > CHECK_SECONDS:
                    await _with_database(relay.check, pack.ticket)
                    checked = time.monotonic()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                sent.inc(len(piece))
        await send({"type": "http.response.body", "body": b""})


async def _pieces(pack: relay.Relayed, begin: int, end: int, step: int) -> AsyncGenerator[bytes]:
    """Yield the bytes from `begin` to before `end`, in pieces of at most `step`."""
    chunks: Iterator[bytes] = await _in_thread(pack.storage.read, pack.key, begin)
    left = end - begin
    while left:
        chunk = await _in_thread(next, chunks, b"")
        if not chunk:
            raise StorageError(Trouble.FAILED, f"{pack.key} is shorter than it was.")
        chunk = chunk[:left]
        left -= len(chunk)
        for start in range(0, len(chunk), step):
            yield chunk[start : start + step]


def _part(asked: str, size: int) -> tuple[int, int]:
    """Return the first byte and the one behind the last; all of it for a range that is none."""
    found = _RANGE.fullmatch(asked.strip())
    if not found:
        return 0, size
    begin = int(found[1])
    end = min(size, int(found[2]) + 1) if found[2] else size
    return (begin, end) if begin < end or begin >= size else (0, size)
