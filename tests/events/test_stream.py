"""Both streams, against a real server process."""

from __future__ import annotations

import json
import queue
import signal
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.orchestrator.web.served.fixtures import Served, serve, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCEPT = {"Accept": "text/event-stream"}


@dataclass
class Watching:
    """An open stream, read by a thread."""

    response: httpx.Response
    events: queue.Queue[dict[str, str]] = field(default_factory=queue.Queue)
    ended: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        event: dict[str, str] = {}
        try:
            for line in self.response.iter_lines():
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    event[name] = value
                elif event:
                    self.events.put(event)
                    event = {}
        except (httpx.TransportError, httpx.StreamError):
            pass
        self.ended.set()

    def next(self, seconds: float = 5) -> dict[str, str]:
        return self.events.get(timeout=seconds)


@contextmanager
def watching(served: Served, path: str, headers: dict[str, str]) -> Iterator[Watching]:
    with (
        httpx.Client(timeout=30) as client,
        client.stream("GET", served.url + path, headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        watch = Watching(response)
        thread = threading.Thread(target=watch.read, daemon=True)
        thread.start()
        yield watch


def tell(served: Served, **event: Any) -> None:
    assert served.post("/tell/", params=event).is_success


def head(served: Served) -> int:
    """Return the newest sequence number, learned from the stream itself."""
    with watching(served, "/api/v2/events/", ACCEPT | served.bearer("alice")) as watch:
        tell(served, kind="marker", subject="marker")
        return int(watch.next()["id"])


def test_browser_gets_names_only(served: Served) -> None:
    with watching(served, "/events/", served.cookie("alice")) as watch:
        tell(served, subject="vm:1", kind="vm.changed")
        message = watch.next()
        assert message.pop("id").isdecimal()
        assert message == {"event": "vm:1", "data": "vm.changed"}


def test_a_viewer_sees_what_the_permissions_allow_and_the_own(served: Served) -> None:
    with watching(served, "/events/", served.cookie("bob")) as watch:
        tell(served, subject="vm:others", permission="vms.view_all")
        tell(served, subject="vm:own", permission="vms.view_all", owner=served.cast["bob"]["id"])
        assert watch.next()["event"] == "vm:own"


def test_roles_taken_away_act_within_two_seconds(served: Served) -> None:
    with watching(served, "/events/", served.cookie("carol")) as watch:
        tell(served, subject="vm:before")
        assert watch.next()["event"] == "vm:before"
        served.post("/take-away/?what=roles&name=carol")
        began = time.monotonic()
        until(lambda: _blind(served, watch), 5, what="blindness")
        assert time.monotonic() - began < 10  # five times the promise


def test_who_sees_what_their_roles_have_does_so_live_and_no_longer_than_that(
    served: Served,
) -> None:
    """Only of their roles; and losing the role ends it, in both streams, within 2 s."""
    scope = f"vms.view_roles:{served.cast['fay']['lead']}"
    headers = ACCEPT | served.bearer("fay")
    with (
        watching(served, "/events/", served.cookie("fay")) as browser,
        watching(served, "/api/v2/events/", headers) as api,
    ):
        tell(served, subject="vm:others")
        tell(served, subject="vm:other-role", scope=f"vms.view_roles:{uuid.uuid4()}")
        tell(served, subject="vm:colleague", scope=scope)
        assert browser.next()["event"] == "vm:colleague"
        assert json.loads(api.next()["data"])["subject"] == "vm:colleague"
        served.post("/take-away/?what=roles&name=fay")
        began = time.monotonic()
        until(lambda: _blind(served, browser, "fay", scope=scope), 10, what="blindness")
        assert time.monotonic() - began < 10  # five times the promise
        tell(served, subject="vm:later", scope=scope)
        tell(served, subject="vm:last", owner=served.cast["fay"]["id"])
        seen = [json.loads(api.next()["data"])["subject"]]
        while seen[-1] != "vm:last":
            seen.append(json.loads(api.next()["data"])["subject"])
        assert "vm:later" not in seen


def _blind(served: Served, watch: Watching, who: str = "carol", **hidden: str) -> bool:
    tell(served, subject="vm:others", **hidden)
    tell(served, subject="vm:own", owner=served.cast[who]["id"])
    names = [watch.next()["event"]]
    while names[-1] != "vm:own":
        names.append(watch.next()["event"])
    return names == ["vm:own"]


def test_burst_of_one_name_is_one_message(served: Served) -> None:
    with watching(served, "/events/", served.cookie("alice")) as watch:
        tell(served, subject="host:1", kind="host.changed", count=50)
        tell(served, subject="host:2", kind="host.changed")
        names = [watch.next()["event"]]
        while names[-1] != "host:2":
            names.append(watch.next()["event"])
        assert len(names) < 10


def test_without_redis_events_come_each_second(own_served: Served) -> None:
    with watching(own_served, "/events/", own_served.cookie("alice")) as watch:
        own_served.redis.stop()
        tell(own_served, subject="vm:1")
        assert watch.next(4)["event"] == "vm:1"
        own_served.redis.start()
        tell(own_served, subject="vm:2")
        assert watch.next(4)["event"] == "vm:2"


@pytest.mark.parametrize(
    ("what", "name", "number"),
    [
        ("session", "alice", 1),
        ("password", "dave", 0),
        ("account", "erin", 0),
        ("everywhere", "frank", 0),
        ("assurance", "grace", 0),
    ],
)
def test_a_browser_stream_ends_with_its_session(
    served: Served, what: str, name: str, number: int
) -> None:
    with watching(served, "/events/", served.cookie(name, number)) as watch:
        session = served.cast[name]["sessions"][number]
        served.post(f"/take-away/?what={what}&name={session if what == 'session' else name}")
        began = time.monotonic()
        assert watch.ended.wait(5)
        assert time.monotonic() - began < 10  # five times the promise
    assert served.get("/events/", headers=served.cookie(name, number)).status_code == 401


def test_an_api_stream_ends_with_its_token(served: Served) -> None:
    headers = ACCEPT | served.bearer("alice", 2)
    with watching(served, "/api/v2/events/", headers) as watch:
        served.post("/take-away/?what=token&name=alice-2")
        began = time.monotonic()
        assert watch.ended.wait(5)
        assert time.monotonic() - began < 10  # five times the promise
    response = served.get("/api/v2/events/", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["code"] == "not_authenticated"


def test_strangers_are_refused(served: Served) -> None:
    assert served.get("/events/").status_code == 401
    assert served.get("/events/", headers=served.bearer("alice")).status_code == 401
    assert served.get("/api/v2/events/", headers=ACCEPT).status_code == 401
    bad = ACCEPT | {"Authorization": "Bearer orc_0_0"} | served.cookie("alice")
    assert served.get("/api/v2/events", headers=bad).status_code == 401
    assert served.get("/events/", headers={"Cookie": "sessionid=nonsense"}).status_code == 401
    assert served.post("/events/", headers=served.cookie("alice")).status_code == 405


def test_api_stream_has_whole_events_without_a_gap(served: Served) -> None:
    start = head(served)
    tell(served, count=700)
    headers = ACCEPT | served.bearer("alice") | {"Last-Event-ID": str(start)}
    with watching(served, "/api/v2/events", headers) as watch:
        tell(served, kind="vm.deleted", subject="vm:x")
        seen = [watch.next() for _ in range(701)]
    assert [int(event["id"]) for event in seen] == list(range(start + 1, start + 702))
    last = json.loads(seen[-1]["data"])
    assert seen[-1]["event"] == "vm.deleted"
    assert (last["sequence"], last["subject"], last["data"]) == (start + 701, "vm:x", {"number": 0})
    assert last["created_at"].endswith("Z")


def test_api_stream_resumes_far_behind_and_filters_by_kind(served: Served) -> None:
    start = head(served)
    tell(served, kind="a.b", count=1)
    tell(served, count=1500)
    tell(served, kind="a.b", count=1)
    path = f"/api/v2/events/?after={start}&kind=a.b"
    with watching(served, path, ACCEPT | served.bearer("alice")) as watch:
        assert [int(watch.next()["id"]) for _ in range(2)] == [start + 1, start + 1502]


def test_browser_that_missed_little_gets_it_and_much_is_a_resync(served: Served) -> None:
    start = head(served)
    tell(served, subject="vm:missed")
    headers = served.cookie("alice") | {"Last-Event-ID": str(start)}
    with watching(served, "/events/", headers) as watch:
        assert watch.next()["event"] == "vm:missed"
    tell(served, count=1200)
    with watching(served, "/events/", headers) as watch:
        message = watch.next()
        assert message["event"] == "resync"
        assert int(message["id"]) > start + 1000
        tell(served, subject="vm:after")
        until(lambda: watch.next()["event"] == "vm:after")


def test_a_number_from_the_future_is_a_resync(served: Served) -> None:
    headers = served.cookie("alice") | {"Last-Event-ID": "999999999"}
    with watching(served, "/events/", headers) as watch:
        assert watch.next()["event"] == "resync"


def test_after_must_be_a_number(served: Served) -> None:
    response = served.get("/api/v2/events/?after=x", headers=ACCEPT | served.bearer("alice"))
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


def test_stop_ends_streams_at_once(own_served: Served) -> None:
    with watching(own_served, "/events/", own_served.cookie("alice")) as watch:
        began = time.monotonic()
        own_served.process.send_signal(signal.SIGTERM)
        assert watch.ended.wait(5)
        own_served.process.wait(5)
        assert time.monotonic() - began < 15


def test_at_most_so_many_streams(tmp_path: Path) -> None:
    with serve(tmp_path, WEB_MAX_STREAMS="1") as served:
        with watching(served, "/events/", served.cookie("alice")):
            response = served.get("/events/", headers=served.cookie("alice", 1))
            assert response.status_code == 503
            assert response.headers["retry-after"]
        until(lambda: _opens(served), what="the place")


def _opens(served: Served) -> bool:
    with served.client.stream(
        "GET", f"{served.url}/events/", headers=served.cookie("alice")
    ) as response:
        return response.status_code == 200
