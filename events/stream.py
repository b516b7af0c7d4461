"""The event feed as a stream: names for browsers, whole events for API clients.

One reader per process follows the sealed events by number, for all viewers; each viewer's events
are filtered in memory by what the viewer may see at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs

import structlog

from events.models import Event
from orchestrator.web import stream
from orchestrator.web.wire import Receive, Scope, Send, header, in_database, refuse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from uuid import UUID

    from orchestrator.web.wake import Hub

log = structlog.get_logger(__name__)

READ_SECONDS = 1.0
CHECK_SECONDS = 1.0
MISSED_CHECKS = 2  # so often in a row a viewer's rights may be unknown before its stream ends
KEPT = 1000  # events kept in memory; a browser further behind is told to load its page again
PAGE = 500
RETRY = (b"retry-after", b"5")


@dataclass(eq=False)
class Viewer:
    """Who watches one stream, and what the account may see now."""

    user_id: UUID
    permissions: frozenset[str]
    # How the viewer proved who it is, for the room that checks it again.
    session: str = ""
    session_hash: str = ""
    second_factor: bool = False
    token_id: UUID | None = None
    secret_id: str = ""  # which secret of the token
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def may_see(self, event: Event) -> bool:
        return event.may_be_seen(self.user_id, self.permissions)


class Guard(Protocol):
    """Finds out who a viewer is. Both methods ask the database and run in a thread."""

    def identify(self, scope: Scope, *, tokens: bool) -> Viewer | None:
        """Return the viewer behind a session cookie (or a token, if `tokens`), else None."""

    def check(self, viewers: Collection[Viewer]) -> dict[Viewer, frozenset[str]]:
        """Return those that are still who they were, with what they may see now."""


def after(sequence: int, limit: int) -> list[Event]:
    """Return the next sealed events behind `sequence`."""
    return list(Event.objects.after(sequence)[:limit])


def last_sequence() -> int:
    """Return the number of the newest sealed event; 0 without any."""
    newest = Event.objects.sealed().order_by("-sequence").values_list("sequence", flat=True).first()
    return newest or 0


class Reader:
    """Follows the feed while somebody watches: one query at each wake-up, at least each second."""

    def __init__(self, hub: Hub) -> None:
        self.head = 0
        self.recent: deque[Event] = deque(maxlen=KEPT)
        self.watchers = 0
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._start = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        hub.listen(self._on_wake)

    def _on_wake(self, name: str) -> None:
        if name in ("events", ""):
            self._wake.set()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keep the reader going within the block; raises the store's error when it is away."""
        async with self._start:
            if self._task is None or self._task.done():
                self.head = await in_database(last_sequence)
                self.recent.clear()
                self._task = asyncio.create_task(self._run(), name="event-reader")
            self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1

    async def changed(self) -> None:
        """Return when there are events that were not there before the call."""
        await self._changed.wait()

    async def _run(self) -> None:
        while self.watchers or self._start.locked():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), READ_SECONDS)
            self._wake.clear()
            try:
                events = await in_database(after, self.head, KEPT)
            except Exception as error:  # the store is away: look again in a second
                log.warning("stream.read_failed", error=type(error).__name__)
                continue
            if events:
                if len(events) == KEPT:
                    self._wake.set()  # there may be more
                self.recent.extend(events)
                self.head = events[-1].sequence or self.head
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()

    async def behind(self, cursor: int, limit: int | None) -> list[Event] | None:
        """Return the next events behind `cursor`, at most `PAGE` when they come from the database.

        None: some are missing, because they were removed or are more than `limit`.
        """
        if cursor > self.head:
            return None  # the store was put back to an earlier state
        if cursor == self.head:
            return []
        oldest = self.recent[0].sequence if self.recent else None
        if oldest is not None and cursor >= oldest - 1:
            return [event for event in self.recent if (event.sequence or 0) > cursor]
        if limit is not None and self.head - cursor > limit:
            return None
        events = await in_database(after, cursor, PAGE)
        return events if events and events[0].sequence == cursor + 1 else None


class Checks:
    """Asks each second, for all viewers of the process at once, who may go on watching."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._viewers: set[Viewer] = set()
        self._missed = 0
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def of(self, viewer: Viewer) -> Any:
        """Check `viewer` within the block; its `ended` is set when it may not go on."""
        self._viewers.add(viewer)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="viewer-checks")
        try:
            yield
        finally:
            self._viewers.discard(viewer)

    @contextlib.asynccontextmanager
    async def caller(self, scope: Scope) -> AsyncIterator[asyncio.Event]:
        """Watch who sent a request within the block: the event is set when they may not go on.

        It is set at once for one whom the guard does not know, or no longer. While the store is
        away nobody is watched.
        """
        unknown = asyncio.Event()
        try:
            viewer = await in_database(lambda: self._guard.identify(scope, tokens=True))
        except Exception as error:
            log.warning("stream.store_away", error=type(error).__name__)
            yield unknown
            return
        if viewer is None:
            unknown.set()
            yield unknown
            return
        with self.of(viewer):
            yield viewer.ended

    async def _run(self) -> None:
        while self._viewers:
            await asyncio.sleep(CHECK_SECONDS)
            viewers = set(self._viewers)
            try:
                live = await in_database(self._guard.check, viewers)
                self._missed = 0
            except Exception as error:
                log.warning("stream.check_failed", error=type(error).__name__)
                self._missed += 1
                if self._missed < MISSED_CHECKS:
                    continue
                live = {}
            for viewer in viewers:
                if viewer in live:
                    viewer.permissions = live[viewer]
                else:
                    viewer.ended.set()


class StreamFront:
    """The ASGI application of both streams."""

    def __init__(self, guard: Guard, hub: Hub, maximum: int) -> None:
        self.maximum = maximum
        self.open = 0
        self.closing = asyncio.Event()
        self._guard = guard
        self._reader = Reader(hub)
        self.checks = Checks(guard)

    async def names(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a browser: names of what changed, with its kind. For sessions only."""
        await self._serve(scope, receive, send, whole=False)

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an API client: whole events, without a gap from where it was."""
        await self._serve(scope, receive, send, whole=True)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, *, whole: bool) -> None:
        if scope["method"] != "GET":
            await refuse(
                send, 405, "Read the stream with GET.", "method_not_allowed", (b"allow", b"GET")
            )
            return
        if self.open >= self.maximum or self.closing.is_set():
            await refuse(send, 503, "Too many streams are open. Try again soon.", "busy", RETRY)
            return
        cursor = _cursor(scope)
        if cursor is not None and cursor < 0:
            await refuse(send, 400, "“after” must be the sequence number of an event.", "invalid")
            return
        self.open += 1
        try:
            await self._follow(scope, receive, send, cursor, whole=whole)
        finally:
            self.open -= 1

    async def _follow(
        self, scope: Scope, receive: Receive, send: Send, cursor: int | None, *, whole: bool
    ) -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                viewer = await in_database(lambda: self._guard.identify(scope, tokens=whole))
                if viewer:
                    await stack.enter_async_context(self._reader.watching())
            except Exception as error:
                log.warning("stream.store_away", error=type(error).__name__)
                await refuse(
                    send, 503, "The database does not answer. Try again soon.", "store_away", RETRY
                )
                return
            if viewer is None:
                await refuse(
                    send,
                    401,
                    "Sign in, or send a live token as “Authorization: Bearer …”."
                    if whole
                    else "Sign in to follow what happens.",
                    "not_authenticated",
                    *([(b"www-authenticate", b"Bearer")] if whole else []),
                )
                return
            stack.enter_context(self.checks.of(viewer))
            start = self._reader.head if cursor is None else cursor
            if whole:
                chunks = self._whole(viewer, start, _asked(scope, "kind"))
            else:
                chunks = self._names(viewer, start)
            await stream.serve(receive, send, chunks, viewer.ended.wait(), self.closing.wait())

    async def _batches(
        self, cursor: int, limit: int | None
    ) -> AsyncIterator[tuple[list[Event] | None, int]]:
        """Yield events behind `cursor` as they come, and the number up to which they go.

        None instead of events stands for a gap; what follows it begins behind the gap.
        """
        while True:
            changed = asyncio.ensure_future(self._reader.changed())
            try:
                events = await self._reader.behind(cursor, limit)
                if events is None:
                    cursor = await self._past_gap(cursor, limit)
                    yield None, cursor
                elif events:
                    cursor = events[-1].sequence or cursor
                    yield events, cursor
                else:
                    await changed
            finally:
                changed.cancel()

    async def _past_gap(self, cursor: int, limit: int | None) -> int:
        if limit is None and cursor < self._reader.head:
            oldest = await in_database(after, cursor, 1)
            if oldest:
                return (oldest[0].sequence or 1) - 1
        return self._reader.head

    async def _names(self, viewer: Viewer, cursor: int) -> AsyncIterator[bytes]:
        async for events, last in self._batches(cursor, KEPT):
            if events is None:
                yield stream.message("resync", "gap", last)
                continue
            latest = {event.subject: event for event in events if viewer.may_see(event)}
            lines = [
                stream.message(subject, event.kind, event.sequence)
                for subject, event in sorted(latest.items(), key=lambda item: item[1].sequence or 0)
            ]
            if lines:
                yield b"".join(lines)

    async def _whole(self, viewer: Viewer, cursor: int, kind: str) -> AsyncIterator[bytes]:
        async for events, last in self._batches(cursor, None):
            if events is None:
                yield stream.message("resync", "gap", last)
                continue
            lines = [
                stream.message(event.kind, json.dumps(as_json(event)), event.sequence)
                for event in events
                if viewer.may_see(event) and kind in ("", event.kind)
            ]
            if lines:
                yield b"".join(lines)


def as_json(event: Event) -> dict[str, Any]:
    """Return an event as `events.api.EventOutput` does."""
    return {
        "sequence": event.sequence,
        "kind": event.kind,
        "subject": event.subject,
        "data": event.data,
        "created_at": event.created_at.isoformat().replace("+00:00", "Z"),
    }


def _cursor(scope: Scope) -> int | None:
    """Return where the client was: `Last-Event-ID`, else `?after=` (-1 for nonsense in it)."""
    said = header(scope["headers"], b"last-event-id")
    if said.isascii() and said.isdecimal() and len(said) < 19:
        return int(said)
    text = _asked(scope, "after")
    if not text:
        return None
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1


def _asked(scope: Scope, name: str) -> str:
    """Return the query's last value of `name`, or ""."""
    return parse_qs(scope["query_string"].decode("latin-1")).get(name, [""])[-1]
