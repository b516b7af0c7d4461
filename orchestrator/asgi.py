"""The one ASGI application, on one port: `uvicorn orchestrator.asgi:application`.

Streams and held calls live in the event loop; everything else goes to Django's WSGI application in
a pool of threads, which measured three times faster than Django's own ASGI handler.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote_from_bytes

import django
from a2wsgi import WSGIMiddleware
from django.conf import settings

from orchestrator.web import bodies
from orchestrator.web.wire import Receive, Scope, Send, header

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.relay_front import RelayFront
    from compat.events.hub import EventsHub
    from events.stream import StreamFront
    from orchestrator.web.pace import Pace
    from orchestrator.web.rates import Rates
    from orchestrator.web.waiting import WaitingFront
    from orchestrator.web.wire import App

EVENT_STREAM = "text/event-stream"


class Front:
    """Sends each connection where it belongs, and ends what is held when the process is to stop."""

    def __init__(
        self,
        rates: Rates,
        waiting: WaitingFront,
        streams: StreamFront,
        sockets: EventsHub,
        packs: RelayFront,
        pace: Pace,
        in_form: Callable[[Scope, Send], Send],
        hub: Any,
    ) -> None:
        self.rates = rates
        self.waiting = waiting
        self.streams = streams
        self.sockets = sockets
        self.packs = packs
        self.pace = pace
        self.in_form = in_form
        self.hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = self.in_form(scope, send)
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif not await self.rates.admits(scope, send):
            pass
        elif scope["type"] == "http":
            _cleaned(scope)
            if admitted := await bodies.admit(scope, receive, send):
                await self._route(scope)(scope, admitted, send)
        elif scope["type"] == "websocket":
            await self.sockets(scope, receive, send)

    def _route(self, scope: Scope) -> App:
        path = scope["path"].removesuffix("/")
        if path == "/events":
            return self.streams.names
        if path == "/api/v2/events" and EVENT_STREAM in header(scope["headers"], b"accept"):
            return self.streams.events
        if path.startswith("/packs/"):
            return self.packs
        return self.waiting

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.hub.start()
        self._watch_signals(asyncio.get_running_loop())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._close()
        await self.hub.stop()
        await self.rates.close()
        await self.pace.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _close(self) -> None:
        self.waiting.closing.set()
        self.streams.closing.set()
        self.sockets.closing.set()
        self.packs.closing.set()

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of everybody at the stop signal. The server tells only when all have left."""
        if threading.current_thread() is not threading.main_thread():
            return

        def chain(number: int) -> None:
            before = signal.getsignal(number)

            def on_signal(received: int, frame: Any) -> None:
                loop.call_soon_threadsafe(self._close)
                if callable(before):
                    before(received, frame)

            if callable(before):
                signal.signal(number, on_signal)

        for number in (signal.SIGTERM, signal.SIGINT):
            chain(number)


def _cleaned(scope: Scope) -> None:
    """Make a request safe to hand to WSGI, whose names cannot tell `-` from `_`."""
    scope["headers"] = [pair for pair in scope["headers"] if b"_" not in pair[0]]
    scope["query_string"] = quote_from_bytes(
        scope["query_string"], safe="!#$%&'()*+,/:;=?@[]~\"<>\\^`{|} "
    ).encode()


def make_application() -> Front:
    """Set Django up and return the front."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    django.setup()
    # Only now may models be imported.
    from accounts.viewers import Viewers
    from catalog.relay_front import RelayFront
    from compat.events.guard import SocketGuard
    from compat.events.hub import EventsHub
    from compat.wire.front import in_form
    from compat.wire.paths import normal
    from events.stream import Checks, StreamFront
    from orchestrator.web.pace import Pace
    from orchestrator.web.rates import Rates
    from orchestrator.web.waiting import WaitingFront
    from orchestrator.web.wake import Hub
    from orchestrator.wsgi import application as wsgi

    hub, pace = Hub(), Pace()
    # Its annotations name every kind of message that there is; ours do not.
    pages = cast("App", WSGIMiddleware(cast("Any", wsgi), workers=settings.WEB_THREADS))
    streams = StreamFront(Viewers(), hub, settings.WEB_MAX_STREAMS)
    tools = Checks(SocketGuard(began_before=True))

    def callers(scope: Scope) -> Any:
        return (tools if normal(scope["path"]) else streams.checks).caller(scope)

    return Front(
        Rates(),
        WaitingFront(pages, hub, settings.WEB_MAX_HELD, callers),
        streams,
        EventsHub(hub, settings.WEB_MAX_STREAMS),
        RelayFront(pace, settings.WEB_MAX_STREAMS),
        pace,
        in_form,
        hub,
    )


application = make_application()
