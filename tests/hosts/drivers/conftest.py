"""A little host: a real HTTP server on a free port that answers what the test tells it to."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hosts.drivers import Connection
from hosts.drivers.parallels import session
from hosts.drivers.parallels.tokens import tokens

TOKEN = "eyJhbGciOi.first.token"


@dataclass
class Reply:
    """What to answer. `raw` is written as it is; `hang` waits for the end of the test."""

    status: int = 200
    body: Any = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    raw: bytes | None = None
    chunks: Callable[[threading.Event], Iterator[bytes]] | None = None
    hang: bool = False
    reset: bool = False

    def bytes(self) -> bytes:
        return json.dumps(self.body).encode() if self.content is None else self.content


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


Route = Reply | list[Reply] | Callable[[Seen], Reply]


class LittleHost:
    """Routes by `(method, path)` below `/api`; what is unknown gets the contract's 404."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.routes: dict[tuple[str, str], Route] = {}
        self.seen: list[Seen] = []
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), self._handler(), bind_and_activate=True
        )
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._scheme = "https" if tls else "http"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()
        self.answer("POST", "/v1/auth/token", {"token": TOKEN, "expires_at": 4_000_000_000})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/api"

    def connection(self, **changes: str) -> Connection:
        if not changes.keys() & {"username", "api_key"}:
            changes |= {"username": "root@localhost", "password": "pass-word-1"}
        return Connection(self.url, **changes)

    def answer(self, method: str, path: str, body: Any = None, status: int = 200) -> None:
        self.routes[method, path] = Reply(status, body)

    def route(self, method: str, path: str, route: Route) -> None:
        self.routes[method, path] = route

    def paths(self) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.seen]

    def reply_to(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            path = seen.path.removeprefix("/api")
            route = self.routes.get((seen.method, path.partition("?")[0]))
            if isinstance(route, list):
                route = route.pop(0) if len(route) > 1 else route[0]
        if route is None:
            message = f"resource {seen.path} not found"
            return Reply(404, {"message": message, "code": 404})
        return route if isinstance(route, Reply) else route(seen)

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(host) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                content = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = json.loads(content) if content else None
                self.write(host.reply_to(Seen(self.command, self.path, headers, body)))

            do_GET = do_PUT = do_POST = do_DELETE = respond

            def write(self, reply: Reply) -> None:
                if reply.hang:
                    host.ended.wait(30)
                    return
                if reply.reset:
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.close_connection = True
                    self.connection.close()
                    return
                if reply.raw is not None:
                    self.wfile.write(reply.raw)
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                if reply.content_type:
                    self.send_header("Content-Type", reply.content_type)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.chunks:
                    self.send_header("Connection", "close")
                    self.end_headers()
                    for chunk in reply.chunks(host.ended):
                        self.wfile.write(chunk)
                    self.close_connection = True
                    return
                content = reply.bytes()
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


HARDWARE: dict[str, Any] = {
    "cpu_type": "arm64",
    "cpu_brand": "Apple M2 Pro",
    "devops_version": "1.0.5",
    "os_name": "macOS",
    "os_version": "15.5",
    "parallels_desktop_version": "20.4.0",
    "parallels_desktop_licensed": True,
    "system_reserved": {"logical_cpu_count": 1, "memory_size": 2048, "disk_count": 20000},
    "total": {"logical_cpu_count": 12, "memory_size": 32768.5, "disk_count": 420000},
    "total_available": {
        "logical_cpu_count": 7,
        "memory_size": 22528,
        "disk_count": 510000,
        "prl_home_free_size": 500000,
        "prl_home_total_size": 950000,
    },
    "total_in_use": {"logical_cpu_count": 4, "memory_size": 8192, "disk_count": 65536},
    "total_reserved": {"logical_cpu_count": 2, "memory_size": 4096, "disk_count": 65536},
    "cache_config": {"enabled": True, "folder": "/cache"},
    "enabled_modules": ["api", "host", "cache"],
}

VM: dict[str, Any] = {
    "ID": "{vm-1}",
    "user": "ci",
    "Name": "build-421",
    "Type": "APPLE_VZ_VM",
    "State": "Running",
    "OS": "macosx",
    "internal_ip_address": "10.211.55.7",
    "Hardware": {
        "cpu": {"cpus": 4, "auto": "off"},
        "memory": {"size": "8192Mb"},
        "hdd0": {"enabled": True, "size": "65536Mb"},
        "hdd1": {"enabled": True, "size": "1Mb"},
    },
    "Network": {"ipAddresses": [{"type": "ipv4", "ip": "10.211.55.9"}]},
}

CACHE: dict[str, Any] = {
    "total_size": 10240,
    "manifests": [
        {
            "catalog_id": "MACOS-XCODE",
            "version": "16.2",
            "architecture": "aarch64",
            "cache_date": "2026-09-21T10:00:00.123456789Z",
            "cache_type": "macvm",
            "cache_size": 10240,
            "cache_last_used": "0001-01-01T00:00:00Z",
        }
    ],
}

LICENCE = "/v1/config/parallels-desktop/license"


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Ports are used again by later tests; what was learned about a port is not for them."""
    tokens.reset()
    session._state_methods.clear()
    yield


@pytest.fixture
def make_host() -> Iterator[Callable[..., LittleHost]]:
    """Start little hosts, ended with the test."""
    hosts: list[LittleHost] = []

    def make(tls: ssl.SSLContext | None = None) -> LittleHost:
        hosts.append(LittleHost(tls))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def host(make_host: Callable[..., LittleHost]) -> LittleHost:
    """A little host that answers like a healthy one."""
    host = make_host()
    host.answer("GET", "/health/probe", {"status": "OK"})
    host.answer("GET", "/v1/config/hardware", HARDWARE)
    host.answer("GET", LICENCE, {"uuid": "licence-uuid"})
    host.answer("GET", "/machines", [VM])
    host.answer("GET", "/v1/cache", CACHE)
    return host


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def hardware_json() -> dict[str, Any]:
    return json.loads(json.dumps(HARDWARE))  # type: ignore[no-any-return]


@pytest.fixture
def vm_json() -> dict[str, Any]:
    return json.loads(json.dumps(VM))  # type: ignore[no-any-return]
