"""Rates and sizes of requests, through the real front."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.web import bodies, rates
from tests.orchestrator.web.served.fixtures import Served, serve, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that lets in one request a second of each kind, ten at once."""
    limits = {"RATE_LIMIT_TOKEN": "1", "RATE_LIMIT_STRANGER": "1", "RATE_LIMIT_ADDRESS": "3"}
    sizes = {"WEB_MAX_BODY_BYTES": "1000", "WEB_MAX_UPLOAD_BYTES": "100000"}
    with serve(tmp_path_factory.mktemp("tight"), **limits, **sizes) as server:
        yield server


@pytest.fixture(autouse=True)
def _as_strangers(tight: Served) -> None:
    tight.client.cookies.clear()


def from_(address: str, **headers: str) -> dict[str, str]:
    """Headers of a request that a proxy on this machine passes on."""
    return {"X-Forwarded-For": address, **headers}


def statuses(
    served: Served, count: int, headers: dict[str, str], path: str = "/jobs/"
) -> list[int]:
    return [served.get(path, headers=headers).status_code for _ in range(count)]


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["detail"]
    return (body["status"], body["code"]) == (status, code)


def refused(
    ask: Callable[[], httpx.Response], room: int = 10, *, used: bool = False
) -> httpx.Response:
    """Ask until it is refused: the burst gets in, if it was not `used`, and what seconds let in."""
    started, admitted = time.monotonic(), 0
    while (answer := ask()).status_code != 429:
        assert answer.is_success, answer.text
        admitted += 1
        assert admitted <= 2 * room + 3 * (time.monotonic() - started), "no limit"
    assert used or admitted >= room
    return answer


def again(ask: Callable[[], int]) -> bool:
    """Return whether it is refused where the last request was; slow seconds may let one in."""
    return 429 in {ask() for _ in range(3)}


def test_each_token_and_each_strangers_address_has_its_burst(tight: Served) -> None:
    # A stranger: ten at once, and then by the second. Another address is not concerned.
    last = refused(lambda: tight.get("/jobs/", headers=from_("192.0.2.1")))
    assert is_problem(last, 429, "rate_limited")
    assert last.headers["retry-after"] == "1"
    assert "without signing in" in last.json()["detail"]
    assert statuses(tight, 1, from_("192.0.2.2")) == [200]
    until(lambda: tight.get("/jobs/", headers=from_("192.0.2.1")).is_success, 10, "a second later")

    # A token, wherever it is used; another token from there goes on.
    bearer, places = tight.bearer("alice"), itertools.cycle(range(20, 33))
    refused(lambda: tight.get("/echo/", headers=from_(f"192.0.2.{next(places)}", **bearer)))
    assert statuses(tight, 1, from_("192.0.2.20", **tight.bearer("bob")), "/echo/") == [200]
    # Tokens that are made up have the address's room, and no more.
    made_up = itertools.count()
    refused(
        lambda: tight.get(
            "/echo/", headers=from_("192.0.2.99", Authorization=f"Bearer {next(made_up)}")
        ),
        room=30,
    )
    # All of one IPv6 network is one address.
    refused(lambda: tight.get("/jobs/", headers=from_("2001:db8::1")))
    assert again(lambda: statuses(tight, 1, from_("2001:db8::2"))[0])
    assert statuses(tight, 1, from_("2001:db8:0:1::2")) == [200]


def test_checks_of_health_are_never_refused_and_pages_get_a_page(tight: Served) -> None:
    headers = from_("192.0.2.50")
    refused(lambda: tight.get("/jobs/", headers=headers))
    assert set(statuses(tight, 12, headers, "/healthz")) == {200}
    html = headers | {"Accept": "text/html"}
    page = refused(lambda: tight.get("/accounts/login/", headers=html), used=True)
    assert "<h1>Too many requests</h1>" in page.text
    # A session does not help at the pages where one signs in.
    cookie = headers | tight.cookie("alice")
    assert statuses(tight, 1, cookie, "/echo/") == [200]
    refused(lambda: tight.get("/accounts/login/", headers=cookie), used=True)

    # Nor may a stranger open streams without end.
    tight.client.cookies.clear()  # of the page where one signs in

    def opened() -> int:
        with tight.client.stream("GET", f"{tight.url}/events", headers=headers) as stream:
            return stream.status_code

    refused(lambda: tight.get("/jobs/", headers=headers), used=True)
    assert again(opened)


def test_a_held_call_counts_once(tight: Served) -> None:
    headers = from_("192.0.2.60", **tight.bearer("alice", 1))
    got = [
        tight.post("/start/", headers=headers | {"Prefer": "wait=1"}).status_code for _ in range(3)
    ]  # each takes a second and fills what it took
    assert got == [202] * 3
    assert statuses(tight, 9, headers, "/echo/") == [200] * 9


@pytest.mark.parametrize("away", [False, True], ids=["redis", "memory"])
def test_both_counters_keep_the_rule(away: bool, tight: Served, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0" if away else tight.redis.url

    async def run() -> None:
        counter = rates.Rates()
        one = rates.Bucket("token", f"rate:test:{away}:{time.time()}", 100)
        two = rates.Bucket("address", f"rate:other:{away}:{time.time()}", 1)
        took = [await counter.take([one]) for _ in range(1000)]
        assert {number for number, _ in took} == {0}
        more = [await counter.take([one]) for _ in range(1000)]
        refused = [wait for number, wait in more if number]
        assert refused  # more than the rate
        assert 0 < refused[-1] <= 10_000  # microseconds until there is room for one
        # All or nothing: what the second refuses costs the first nothing.
        fresh = rates.Bucket("token", one.key + "f", 1)
        for _ in range(10):
            assert (await counter.take([fresh, two]))[0] == 0
        for _ in range(5):
            assert (await counter.take([two]))[0] == 1
        assert bool(counter._away_until) == away
        await counter.close()

    asyncio.run(run())


def test_redis_away_neither_fails_nor_opens_the_doors(tight: Served) -> None:
    tight.redis.stop()
    try:
        refused(lambda: tight.get("/jobs/", headers=from_("192.0.2.40")))
    finally:
        tight.redis.start()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_KEPT", 100)
    memory = rates.Memory()
    busy = rates.Bucket("address", "busy", 1)
    while not memory.take([busy])[0]:
        pass
    for number in range(1000):
        memory.take([rates.Bucket("address", str(number), 1)])
    assert len(memory._full) <= 100
    assert memory.take([busy])[0] == 1


def test_bodies_that_are_too_large_are_told_what_to_do(tight: Served) -> None:
    headers = from_("192.0.2.70", **tight.bearer("bob", 1))
    assert tight.post("/size/", headers=headers, content=b"x" * 1000).is_success
    refused = tight.post("/size/", headers=headers, content=b"x" * 1001)
    assert is_problem(refused, 413, "too_large")
    assert "1000 bytes" in refused.json()["detail"]
    # In pieces of which nobody told how many: counted as they come, and read as one body.
    assert tight.post("/size/", headers=headers, content=iter([b"x" * 9] * 100)).json() == 900
    assert is_problem(
        tight.post("/size/", headers=headers, content=iter([b"x" * 999] * 3)), 413, "too_large"
    )
    file = {"file": ("a", b"x" * 50_000)}
    assert tight.post("/size/", headers=headers, files=file).is_success
    file = {"file": ("a", b"x" * 100_000)}
    assert is_problem(tight.post("/size/", headers=headers, files=file), 413, "too_large")
    binary = headers | {"Content-Type": "application/octet-stream"}
    assert is_problem(
        tight.post("/size/", headers=binary, content=iter([b"x"])), 411, "length_required"
    )
    headers = from_("192.0.2.71", **tight.bearer("bob"))
    large = tight.get("/size/", headers=headers | {"X-Large": "x" * 13_000})
    assert is_problem(large, 431, "headers_too_large")


def test_slow_bodies_hold_no_thread(tight: Served) -> None:
    """The server has four threads; eight clients that send nothing more are no matter to others."""
    request = (
        b"POST /size/ HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.8\r\n"
        b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
    )
    slow = [socket.create_connection(("127.0.0.1", tight.port), timeout=5) for _ in range(8)]
    try:
        for client in slow:
            client.sendall(request)
        began = time.monotonic()
        assert tight.get("/jobs/", headers=from_("192.0.2.81")).status_code == 200
        assert time.monotonic() - began < 2
        slow[0].sendall(b"123456789")  # the whole of it: answered as ever
        assert slow[0].recv(100).split()[1] == b"200"
    finally:
        for client in slow:
            client.close()


def test_a_body_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.01)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "headers": [(b"content-length", b"5"), (b"content-type", b"application/json")],
        "query_string": b"",
    }

    async def run() -> None:
        assert await bodies.admit(scope, receive, send) is None

    asyncio.run(run())
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["code"] == "too_slow"


@pytest.mark.parametrize("extension", [True, False])
def test_the_opening_of_a_websocket_counts_too(extension: bool, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    settings.RATE_LIMIT_STRANGER = 1
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/api/v1/logs/stream",
        "headers": [],
        "client": ("192.0.2.1", 1),
        "extensions": {"websocket.http.response": {}} if extension else {},
    }

    async def run() -> list[bool]:
        counter = rates.Rates()
        return [await counter.admits(scope, send) for _ in range(11)]

    before = rates.refusals.labels("stranger")._value.get()
    assert asyncio.run(run()) == [True] * 10 + [False]
    assert rates.refusals.labels("stranger")._value.get() == before + 1
    if extension:
        assert sent[0]["status"] == 429
        assert dict(sent[0]["headers"])[b"retry-after"] == b"1"
    else:
        assert sent == [{"type": "websocket.close", "code": 1013}]
