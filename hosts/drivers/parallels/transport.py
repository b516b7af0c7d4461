"""The two ways to the wire: an httpx client for threads and one for an event loop.

Both send one `Request`, read the answer to its end within the limits and turn every failure into a
`HostError` with `outcome_unknown` set when the request may have reached the host.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from hosts.drivers.base import ErrorKind

from .guard import ForbiddenAddress, refuse_forbidden
from .messages import Answer, Request
from .tls import context_for, shown_fingerprint
from .trouble import TROUBLE, Unreadable, address_of, translate, wants_fingerprint

_CONNECT_SECONDS = 10.0
_FINGERPRINT_SECONDS = 3.0
_IDLE_SECONDS = 15.0  # hosts close idle connections after 60 s (contract 1.3)

_deadline: ContextVar[float] = ContextVar("_deadline")


class _DeadlineStream(httpcore.NetworkStream):
    """A stream that gives up when the call's time is over.

    httpx bounds each read, not the whole: a host that sends a byte now and then would hold a
    thread for ever.
    """

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        limit = _remaining(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, limit))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        limit = _remaining(timeout, httpcore.ConnectTimeout)
        stream = super().connect_tcp(host, port, limit, local_address, socket_options)
        try:
            refuse_forbidden(stream)
        except ForbiddenAddress:
            stream.close()
            raise
        return _DeadlineStream(stream)


class _GuardedBackend(httpcore.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        try:
            refuse_forbidden(stream)
        except ForbiddenAddress:
            await stream.aclose()
            raise
        return stream


class _GuardedTransport(httpx.AsyncHTTPTransport):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=None,
            max_keepalive_connections=None,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=_GuardedBackend(),
        )


def _remaining(timeout: float | None, late: type[Exception]) -> float | None:
    """The seconds an operation may take: its own limit or what is left for the call."""
    left = _deadline.get(float("inf")) - time.monotonic()
    if left <= 0:
        raise late("the call's time is over")
    return left if timeout is None else min(timeout, left)


class _DeadlineTransport(httpx.HTTPTransport):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context)
        # httpx has no parameter for the network backend; a test holds that it is used.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=_DeadlineBackend(),
        )


def _no_cookies() -> CookieJar:
    """A jar that takes nothing: the client is shared, and cookies do not tell ports apart."""
    return CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))


_clients: dict[str, httpx.Client] = {}
_clients_lock = threading.Lock()


def _shared_client(tls_fingerprint: str) -> httpx.Client:
    """The process's one client for a trust setting; httpx clients are thread-safe."""
    with _clients_lock:
        if tls_fingerprint not in _clients:
            _clients[tls_fingerprint] = httpx.Client(
                transport=_DeadlineTransport(context_for(tls_fingerprint)),
                trust_env=False,
                follow_redirects=False,
                cookies=_no_cookies(),
            )
        return _clients[tls_fingerprint]


def _forget_clients() -> None:
    """In a forked child: the sockets are the parent's, the lock may be held by a thread gone."""
    global _clients_lock
    _clients_lock = threading.Lock()
    _clients.clear()


os.register_at_fork(after_in_child=_forget_clients)


class Transport:
    """Sends requests in the calling thread."""

    def __init__(self, tls_fingerprint: str, max_answer_bytes: int) -> None:
        self._client = _shared_client(tls_fingerprint)
        self._max_bytes = max_answer_bytes

    def send(self, request: Request) -> Answer:
        """Return the answer, whatever its status; raise `HostError` when there is none."""
        token = _deadline.set(time.monotonic() + request.limit_seconds)
        try:
            return self._exchange(request)
        except TROUBLE as error:
            problem = translate(error, request)
            if wants_fingerprint(problem):
                problem.fingerprint = shown_fingerprint(
                    *address_of(request.url), _FINGERPRINT_SECONDS
                )
            raise problem from error
        finally:
            _deadline.reset(token)

    def _exchange(self, request: Request) -> Answer:
        begun = time.perf_counter()
        with self._client.stream(**_arguments(request)) as response:
            received_at = time.time()
            collector = _Collector(response, self._max_bytes, request.keep_bytes)
            for chunk in response.iter_raw():
                collector.take(chunk)
        return collector.answer(received_at, begun)


class AsyncTransport:
    """Sends requests in the running event loop, with a client of its own.

    One pool over many hosts searches all their connections at each request; a client per host is
    twenty times cheaper.
    """

    def __init__(self, tls_fingerprint: str, max_answer_bytes: int) -> None:
        self._fingerprint = tls_fingerprint
        self._max_bytes = max_answer_bytes
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, request: Request) -> Answer:
        """Return the answer, whatever its status; raise `HostError` when there is none."""
        try:
            async with asyncio.timeout(request.limit_seconds):
                return await self._exchange(request)
        except TROUBLE as error:
            problem = translate(error, request)
            if wants_fingerprint(problem):
                problem.fingerprint = await asyncio.to_thread(
                    shown_fingerprint, *address_of(request.url), _FINGERPRINT_SECONDS
                )
            raise problem from error

    async def _exchange(self, request: Request) -> Answer:
        begun = time.perf_counter()
        async with self._open_client().stream(**_arguments(request)) as response:
            received_at = time.time()
            collector = _Collector(response, self._max_bytes, request.keep_bytes)
            async for chunk in response.aiter_raw():
                collector.take(chunk)
        return collector.answer(received_at, begun)

    def _open_client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:  # connections die with their loop
            self._client, self._loop = (
                httpx.AsyncClient(
                    transport=_GuardedTransport(context_for(self._fingerprint)),
                    trust_env=False,
                    follow_redirects=False,
                    cookies=_no_cookies(),
                ),
                loop,
            )
        return self._client

    async def aclose(self) -> None:
        """Close the connections, when this is the loop that made them."""
        if self._client is not None and self._loop is asyncio.get_running_loop():
            await self._client.aclose()
        self._client = None


def _arguments(request: Request) -> dict[str, Any]:
    limit = request.limit_seconds
    return {
        "method": request.method,
        "url": request.url,
        "headers": request.headers,
        "content": request.content,
        "timeout": httpx.Timeout(limit, connect=min(limit, _CONNECT_SECONDS)),
    }


class _Collector:
    """Takes the raw bytes of a body and counts them; a declared length is not trusted."""

    def __init__(self, response: httpx.Response, max_bytes: int, keep: int | None) -> None:
        self._response = response
        self._max_bytes = max_bytes
        self._keep = keep
        self._chunks: deque[bytes] = deque()
        self._size = 0
        if response.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
            raise Unreadable(
                ErrorKind.BAD_ANSWER,
                "The host sent a compressed answer although that was not allowed. "
                "Turn compression off in the proxy before it.",
                response.status_code,
            )

    def take(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._chunks.append(chunk)
        if self._keep is not None:
            while self._size - len(self._chunks[0]) >= self._keep:
                self._size -= len(self._chunks.popleft())
            return
        if self._size > self._max_bytes:
            raise Unreadable(
                ErrorKind.TOO_LARGE,
                f"The host's answer is larger than {self._max_bytes / 2**20:g} MiB "
                "and was not read. Check what answers at this address.",
                self._response.status_code,
            )

    def answer(self, received_at: float, begun: float) -> Answer:
        headers = self._response.headers
        body = b"".join(self._chunks)
        return Answer(
            status=self._response.status_code,
            content_type=headers.get("content-type", ""),
            date=headers.get("date", ""),
            body=body if self._keep is None else body[-self._keep :],
            received_at=received_at,
            latency_ms=(time.perf_counter() - begun) * 1000,
        )
