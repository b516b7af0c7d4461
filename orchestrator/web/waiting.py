"""Held calls: a client that asked to wait is kept here, in the event loop, and not in a thread.

A view answers 202 and says with `hold()` what it waits for. If the request came with
`Prefer: wait=N`, or the view itself says how long, the front keeps the client's connection, waits
until the job has ended, asks the application for the final representation as the same caller
(rights are checked again), and answers with that. A caller whose session, token or account ends
meanwhile is told so, within two seconds. Not ended in time, too many held, or the process ends: the
202 goes out as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections import defaultdict
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote
from uuid import UUID

import structlog
from django.utils.crypto import constant_time_compare

from orchestrator.web.wire import Message, Receive, Scope, Send, answer, gone, header, in_database

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractAsyncContextManager

    from django.http import HttpRequest, HttpResponseBase

    from orchestrator.web.wake import Hub
    from orchestrator.web.wire import App

log = structlog.get_logger(__name__)

HEADER = "X-Orchestrator-Wait"
_NAME = HEADER.lower().encode()
MAXIMUM_SECONDS = 60
LOOK_SECONDS = 1.0
_NOT_LET_IN = (401, 403)
_ACCEPTED = 202
_PREFER = re.compile(r"""(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])""", re.IGNORECASE)
_WAIT = re.compile(r"job=([0-9a-f-]{36}); status=(\d{3})(?:; seconds=(\d{1,6}))?; then=(/[^\s]*)")
# Marks what the front itself asks. Of this process alone: front and application share it.
_INNER = secrets.token_hex(32)
# What describes the first request alone, and not who asks.
_NOT_REPEATED = (
    b"prefer",
    b"idempotency-key",
    b"transfer-encoding",
    b"expect",
    b"range",
    b"upgrade",
)

_which_ended: list[Callable[[Collection[UUID]], set[UUID]]] = []


def register(which_ended: Callable[[Collection[UUID]], set[UUID]]) -> None:
    """Let `which_ended` tell which of some ids have ended. It is called in a thread."""
    _which_ended.append(which_ended)


def hold(
    response: HttpResponseBase, job_id: UUID, then: str, status: int = 200, *, seconds: int = 0
) -> None:
    """Let a client that asked for it wait until the job `job_id` has ended.

    It then gets what `GET then` (a path, perhaps with a query) says to the same caller, under
    `status`; a refusal keeps its own. Without `Prefer: wait`, the response goes out at once, unless
    `seconds` says how long every client of this call waits, asked or not.
    """
    limit = f"; seconds={seconds}" if seconds else ""
    response.headers[HEADER] = f"job={job_id}; status={status}{limit}; then={then}"


def is_inner(request: HttpRequest) -> bool:
    """Return whether the front asks this, for a client whose call began a while ago."""
    return constant_time_compare(request.headers.get(HEADER, ""), _INNER)


def wished_seconds(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the N of `Prefer: wait=N`, at most 60; 0 when there is none or it makes no sense."""
    found = _PREFER.search(header(headers, b"prefer"))
    return min(int(found[1]), MAXIMUM_SECONDS) if found else 0


class Watch:
    """Tells when jobs end: one query for all that are waited for, at wake-ups and each second."""

    def __init__(self, hub: Hub) -> None:
        self._waiters: dict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._woken: set[UUID] = set()
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        hub.listen(self._on_wake)

    def _on_wake(self, name: str) -> None:
        kind, _, text = name.partition(":")
        if kind == "job":
            with contextlib.suppress(ValueError):
                self._ask_for(UUID(text))

    def _ask_for(self, job_id: UUID) -> None:
        if job_id in self._waiters:
            self._woken.add(job_id)
            self._look.set()

    async def ended(self, job_id: UUID) -> None:
        """Return once the job has ended."""
        event = asyncio.Event()
        self._waiters[job_id].add(event)
        self._ask_for(job_id)  # it may have ended before anybody waited
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="held-calls")
        try:
            await event.wait()
        finally:
            self._waiters[job_id].discard(event)
            if not self._waiters[job_id]:
                del self._waiters[job_id]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        look_at_all = loop.time() + LOOK_SECONDS
        while self._waiters:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), max(0.0, look_at_all - loop.time()))
            self._look.clear()
            asked, self._woken = self._woken, set()
            if loop.time() >= look_at_all:
                asked = set(self._waiters)
                look_at_all = loop.time() + LOOK_SECONDS
            if not asked:
                continue
            try:
                ended = await in_database(_ended_among, asked)
            except Exception as error:  # the store is away: look again in a second
                log.warning("waiting.look_failed", error=type(error).__name__)
                continue
            for job_id in ended:
                for event in self._waiters.get(job_id, ()):
                    event.set()


def _ended_among(job_ids: Collection[UUID]) -> set[UUID]:
    return {job_id for which_ended in _which_ended for job_id in which_ended(job_ids)}


class Callers(Protocol):
    """Watches who sent a request, within a block: sets the event when they may not go on."""

    def __call__(self, scope: Scope) -> AbstractAsyncContextManager[asyncio.Event]: ...


class WaitingFront:
    """The ASGI layer in front of the application. At most `maximum` calls are held at once."""

    def __init__(self, app: App, hub: Hub, maximum: int, callers: Callers) -> None:
        self.app = app
        self._callers = callers
        self.maximum = maximum
        self.held = 0
        self.closing = asyncio.Event()  # set: nobody is held any longer
        self._watch = Watch(hub)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The header is ours alone, in both directions.
        scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != _NAME]
        outgoing = _Outgoing(send, wished_seconds(scope["headers"]))
        await self.app(scope, receive, outgoing)
        if outgoing.kept:
            await self._hold(scope, receive, send, outgoing)

    async def _hold(self, scope: Scope, receive: Receive, send: Send, first: _Outgoing) -> None:
        final = None
        if self.held < self.maximum and not self.closing.is_set():
            self.held += 1
            try:
                final = await self._wait(scope, receive, first)
            except _Gone:
                return
            finally:
                self.held -= 1
        if final is None:
            await answer(send, _ACCEPTED, first.headers, first.body)
            return
        # Where it is and that it was a replay were said by the first answer.
        told = [p for p in first.headers if p[0] in (b"location", b"idempotent-replayed")]
        status = first.status if final.status == 200 else final.status
        headers = [*final.headers, *(told if final.status == 200 else [])]
        if not first.unasked:
            headers.append((b"preference-applied", f"wait={first.seconds}".encode()))
        await answer(send, status, headers, final.body)

    async def _wait(self, scope: Scope, receive: Receive, first: _Outgoing) -> _Outgoing | None:
        async with self._callers(scope) as refused:
            if refused.is_set():  # unknown: let in by the application alone, or gone since
                final = await self._ask_again(scope, first.then)
                if final.status in _NOT_LET_IN:
                    return final
                refused = asyncio.Event()
            return await self._wait_as(refused, scope, receive, first)

    async def _wait_as(
        self, refused: asyncio.Event, scope: Scope, receive: Receive, first: _Outgoing
    ) -> _Outgoing | None:
        tasks = {
            "ended": asyncio.create_task(self._watch.ended(first.job_id)),
            "refused": asyncio.create_task(refused.wait()),
            "gone": asyncio.create_task(gone(receive)),
            "closing": asyncio.create_task(self.closing.wait()),
        }
        try:
            await asyncio.wait(
                tasks.values(), timeout=first.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if tasks["gone"].done():
                raise _Gone
            if not (tasks["ended"].done() or tasks["refused"].done()):
                return None
            final = await self._ask_again(scope, first.then)
            # The work exists whatever ails the store now: then the 202 is the truth.
            return final if final.status < 500 else None
        finally:
            for task in tasks.values():
                task.cancel()

    async def _ask_again(self, scope: Scope, then: str) -> _Outgoing:
        path, _, query = then.partition("?")
        inner = {
            **scope,
            "method": "GET",
            "path": scope.get("root_path", "") + unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (name, value)
                for name, value in scope["headers"]
                if name not in _NOT_REPEATED and not name.startswith((b"content-", b"if-"))
            ]
            + [(_NAME, _INNER.encode())],
        }
        outgoing = _Outgoing(None, 0)
        await self.app(inner, _nothing_more(), outgoing)
        return outgoing


class _Gone(Exception):
    """The client has left."""


def _nothing_more() -> Receive:
    """Return the `receive` of a request without a body."""
    told = False

    async def receive() -> Message:
        nonlocal told
        if not told:
            told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    return receive


class _Outgoing:
    """The application's `send`: passes on, or keeps a 202 that may be held.

    Without a `send` of its own it keeps everything.
    """

    def __init__(self, send: Send | None, seconds: int) -> None:
        self._send = send
        self.seconds = seconds
        self.unasked = False  # the view decided that its client waits
        self.kept = send is None
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.status = 0
        self.job_id = UUID(int=0)
        self.then = ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body" and self.kept:
            self.body += message.get("body", b"")
        if not self.kept and self._send:
            await self._send(message)

    def _start(self, message: Message) -> None:
        pairs = list(message.get("headers", []))
        self.headers = message["headers"] = [p for p in pairs if p[0].lower() != _NAME]
        self.status = message["status"]
        if self._send and self.status == _ACCEPTED:
            found = _WAIT.fullmatch(header(pairs, _NAME))
            if found and (found[3] or self.seconds):
                self.kept = True
                self.unasked = bool(found[3])
                self.seconds = int(found[3] or self.seconds)
                self.job_id, self.status, self.then = UUID(found[1]), int(found[2]), found[4]
