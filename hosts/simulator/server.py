"""Sockets and the uvicorn server: one port for all hosts, and an address per host when wanted.

On the shared port a host that refuses cannot refuse the connection itself; it is cut (TCP reset)
before any byte of answer. On its own address its socket is closed, so that connecting is refused.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hosts.simulator.app import Simulator
from hosts.simulator.control import address_of
from hosts.simulator.options import Options
from hosts.simulator.state import StateFile
from hosts.simulator.wire import cut
from hosts.simulator.world import World

KEEP_ALIVE_SECONDS = 60
"""How long an idle connection is kept, as the original does (contract 1.3)."""

_BACKLOG = 2048


class _Protocol(H11Protocol):
    """One connection; tells the application its transport and, by ``home``, its host."""

    home: _HostListener | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {"transport": transport}
        if self.home is not None:
            self.app_state["host"] = self.home.k
            self.home.transports.add(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.home is not None:
            self.home.transports.discard(self.transport)
        super().connection_lost(exc)


class _HostListener:
    """The socket of one host at its own address; closed while the host refuses."""

    def __init__(self, server: SimulatorServer, k: int) -> None:
        self.k = k
        self.transports: set[asyncio.Transport] = set()
        self._server = server
        self._listening: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        """Whether connections are taken."""
        return self._listening is not None

    async def open(self, port: int) -> None:
        """Listen; raises ``OSError`` when the address cannot be had (it is Linux only)."""
        sock = _bind(address_of(self.k), port)
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._protocol, sock=sock, backlog=_BACKLOG)

    def close(self) -> None:
        """Stop listening and cut the connections there are."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for transport in list(self.transports):
            cut(transport)

    def _protocol(self) -> asyncio.Protocol:
        protocol = self._server.protocol()
        protocol.home = self
        return protocol


class SimulatorServer(uvicorn.Server):
    """Serves a world. ``ready`` is set, and ``port`` known, once connections are taken."""

    def __init__(self, options: Options) -> None:
        self.world = World(options)
        self.port = 0
        super().__init__(
            uvicorn.Config(
                cast("Any", Simulator(self.world)),
                http=_Protocol,
                ws="websockets-sansio",
                ws_max_size=64 * 1024,
                ws_ping_interval=30,
                lifespan="off",
                loop="asyncio",
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                backlog=_BACKLOG,
            ),
        )
        self._listeners: dict[int, _HostListener] = {}
        self._changing = asyncio.Lock()
        self._state: StateFile | None = None
        self._keeping: asyncio.Task[None] | None = None

    def protocol(self) -> _Protocol:
        """Return the handler of a new connection."""
        return _Protocol(self.config, self.server_state, {})

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind and listen, then say so on standard output.

        Raises ``OSError`` when the port or an address is taken, ``ValueError`` when the file of
        ``--state`` cannot be written.
        """
        shared = _bind("127.0.0.1", self.world.options.port)
        self.port = self.world.port = shared.getsockname()[1]
        if self.world.options.state:  # only now: with the port taken, the file may be another's
            self._state = StateFile(self.world.options.state, self.world)
            if notice := self._state.load():
                sys.stderr.write(f"{notice}\n")
        await super().startup([shared])
        if self.world.options.addresses:
            _allow_files(len(self.world.hosts) + 4096)
            self._listeners = {k: _HostListener(self, k) for k in self.world.hosts}
            self.world.on_change = self._open_and_close
            await self._open_and_close()
        if self._state:
            self._keeping = asyncio.create_task(self._state.keep())
        gc.freeze()  # the pool stays: the collector need not walk it again and again
        sys.stdout.write(f"listening on http://127.0.0.1:{self.port}\n")
        sys.stdout.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End at once, whatever requests are open."""
        for listener in self._listeners.values():
            listener.close()
        self.world.cancel_work()
        for connection in list(self.server_state.connections):
            cut(connection.transport)
        for task in list(self.server_state.tasks):
            task.cancel()
        await super().shutdown(sockets)
        if self._state and self._keeping:
            self._state.end()
            await self._keeping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGTERM and SIGINT with code 0 (uvicorn would raise the signal again)."""
        loop = asyncio.get_running_loop()
        signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
        try:
            for number in signals:
                loop.add_signal_handler(number, self.stop)
        except (RuntimeError, ValueError):  # not the main thread: whoever runs us calls stop()
            signals = ()
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Ask the server to end; from another thread use ``call_soon_threadsafe``."""
        self.should_exit = True

    async def _open_and_close(self) -> None:
        async with self._changing:
            for k, listener in self._listeners.items():
                wanted = self.world.hosts[k].is_up
                if wanted and not listener.is_open:
                    await listener.open(self.port)
                elif listener.is_open and not wanted:
                    listener.close()


def serve(options: Options) -> None:
    """Run the simulator until SIGTERM or SIGINT; raises ``OSError`` when it cannot listen."""
    SimulatorServer(options).run()


def _bind(address: str, port: int) -> socket.socket:
    # Without the protocol named, asyncio leaves Nagle's algorithm on: 40 ms for every answer.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files: every address is a socket."""
    import resource  # addresses are Linux only, and so is this

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
