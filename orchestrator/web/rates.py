"""How many requests may come: for each token, each address, and each stranger's address.

Every request is counted once, in the ASGI front, before anything else is done for it: pages, both
APIs, streams, the opening of WebSockets; a held call is one request. A bucket holds
`BURST_SECONDS` worth of requests and fills at its rate (GCRA, of which one moment is all that is
kept). Redis shares the buckets between processes; while it is away each process has its own.
"""

from __future__ import annotations

import hashlib
import html
import ipaddress
import math
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

import redis
import structlog
from django.conf import settings
from prometheus_client import Counter
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orchestrator.addresses import of_client
from orchestrator.web.wire import answer, header, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.web.wire import Scope, Send

log = structlog.get_logger(__name__)

BURST_SECONDS = 10
REDIS_SECONDS = 0.25
QUIET_SECONDS = 5.0  # after a failure Redis is left alone, and requests do not wait for it
CONNECTIONS = 16
MOST_KEPT = 10_000  # buckets of one process while Redis is away
# What checks and scrapes whether the product lives must get through when it is busy.
UNCOUNTED = frozenset({"/healthz", "/readyz", "/metrics"})
CREDENTIALS = (b"authorization", b"x-api-key")
SIGN_IN = "/accounts/"

refusals = Counter(
    "orchestrator_requests_limited", "Requests refused because too many came.", ["bucket"]
)

# All buckets, or none: a request that one of them refuses costs nothing in the others. Returns 0,
# or the number of the bucket that refused and the microseconds until it would not.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local ends = {}
for number, key in ipairs(KEYS) do
  local every, room = tonumber(ARGV[2 * number - 1]), tonumber(ARGV[2 * number])
  local full = math.max(tonumber(redis.call('GET', key) or 0), now)
  if full - now > room then return {number, full - now - room} end
  ends[number] = full + every
end
for number, key in ipairs(KEYS) do
  local left = math.ceil((ends[number] - now) / 1000) + 1000
  redis.call('SET', key, string.format('%.0f', ends[number]), 'PX', left)
end
return {0, 0}
"""


@dataclass(frozen=True)
class Bucket:
    """`rate` requests a second under one key. `kind` is token, address or stranger."""

    kind: str
    key: str
    rate: int

    @property
    def every(self) -> int:
        """Microseconds until there is room for one more."""
        return max(1, 1_000_000 // self.rate)

    @property
    def room(self) -> int:
        """How far ahead, in microseconds, a burst may be."""
        return BURST_SECONDS * 1_000_000 - self.every


class Memory:
    """Buckets of this process alone, by the same rule; at most `MOST_KEPT`."""

    def __init__(self) -> None:
        self._full: dict[str, float] = {}

    def take(self, buckets: Sequence[Bucket]) -> tuple[int, float]:
        """Return as the script does."""
        now = time.monotonic() * 1_000_000
        for number, bucket in enumerate(buckets, 1):
            ahead = self._full.get(bucket.key, 0) - now
            if ahead > bucket.room:
                return number, ahead - bucket.room
        for bucket in buckets:
            self._full[bucket.key] = max(self._full.get(bucket.key, 0), now) + bucket.every
        if len(self._full) > MOST_KEPT:
            self._forget(now)
        return 0, 0

    def _forget(self, now: float) -> None:
        """Drop the buckets with the most room, so that those near their limit are kept."""
        fullest = sorted(self._full.items(), key=lambda item: item[1], reverse=True)
        self._full = {key: full for key, full in fullest[: MOST_KEPT // 2] if full > now}


def shared_client() -> redis_asyncio.Redis:
    """Return a client for what processes share while they answer: it makes nobody wait long."""
    return redis_asyncio.Redis(
        connection_pool=redis_asyncio.BlockingConnectionPool.from_url(
            settings.REDIS_URL,
            max_connections=CONNECTIONS,
            timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            socket_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    )


class Rates:
    """Lets requests in, or answers 429 with the seconds to wait."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._away_until = 0.0
        self._client = shared_client()
        self._script = self._client.register_script(_SCRIPT)

    async def admits(self, scope: Scope, send: Send) -> bool:
        """Return whether this request may go on; if not, it is answered."""
        buckets = buckets_of(scope)
        if not buckets:
            return True
        number, wait = await self.take(buckets)
        if not number:
            return True
        kind = buckets[number - 1].kind
        refusals.labels(kind).inc()
        await _refuse(scope, send, kind, max(1, math.ceil(wait / 1_000_000)))
        return False

    async def take(self, buckets: Sequence[Bucket]) -> tuple[int, float]:
        """Take one from each of `buckets`, or from none: 0, or which refused and microseconds."""
        if time.monotonic() >= self._away_until:
            try:
                number, wait = await self._script(
                    keys=[bucket.key for bucket in buckets],
                    args=[value for bucket in buckets for value in (bucket.every, bucket.room)],
                )
                return number, wait
            except (redis.RedisError, OSError) as error:
                self._away_until = time.monotonic() + QUIET_SECONDS
                log.warning("rates.redis_away", error=type(error).__name__)
        return self._memory.take(buckets)

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()


def buckets_of(scope: Scope) -> list[Bucket]:
    """Return what a request is counted in; the narrowest first. A rate of 0 counts nothing."""
    path = scope["path"]
    if path in UNCOUNTED:
        return []
    address = _network(of_client((scope.get("client") or ("",))[0]))
    given = [header(scope["headers"], name) for name in CREDENTIALS]
    wanted = []
    if any(given):
        # By all of its text: who knows only a part of a token cannot use up what it may.
        key = hashlib.sha256("\0".join(given).encode()).hexdigest()[:32]
        wanted.append(Bucket("token", f"rate:token:{key}", settings.RATE_LIMIT_TOKEN))
    elif path.startswith(SIGN_IN) or not (
        path.startswith(settings.STATIC_URL) or _has_session(scope)
    ):
        key = f"rate:stranger:{address}"
        wanted.append(Bucket("stranger", key, settings.RATE_LIMIT_STRANGER))
    wanted.append(Bucket("address", f"rate:address:{address}", settings.RATE_LIMIT_ADDRESS))
    return [bucket for bucket in wanted if bucket.rate]


def _network(address: str) -> str:
    """Return what is one place: a single IPv4 address; of IPv6, of which one has many, a /64."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False))


def _has_session(scope: Scope) -> bool:
    """Return whether a session cookie came along. One that is made up only counts elsewhere."""
    try:
        return settings.SESSION_COOKIE_NAME in SimpleCookie(header(scope["headers"], b"cookie"))
    except CookieError:
        return False


async def _refuse(scope: Scope, send: Send, kind: str, seconds: int) -> None:
    whose = {"token": "with this token", "address": "from your address"}.get(
        kind, "from your address without signing in"
    )
    detail = f"Too many requests came {whose}. Wait {seconds} s, and send fewer at once."
    retry = (b"retry-after", str(seconds).encode())
    if scope["type"] == "websocket":
        if "websocket.http.response" in (scope.get("extensions") or {}):
            await send({"type": "websocket.http.response.start", "status": 429, "headers": [retry]})
            await send({"type": "websocket.http.response.body", "body": detail.encode()})
        else:
            await send({"type": "websocket.close", "code": 1013})  # try again later
    elif "text/html" in header(scope["headers"], b"accept"):
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Too many requests</title>'
            f"<h1>Too many requests</h1><p>{html.escape(detail)}</p></html>"
        )
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
            (b"cache-control", b"no-store"),
        ]
        await answer(send, 429, [*headers, retry], page.encode())
    else:
        await refuse(send, 429, detail, "rate_limited", retry)
