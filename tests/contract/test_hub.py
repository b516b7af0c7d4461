"""The events hub, over real WebSockets of the running product."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from compat.events.logs import new_lines
from tests.contract.running import Site, finished
from tests.contract.test_machines import MANIFEST, POOL, create
from tests.support.team import ok

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = "pdfm,health,orchestrator,stats,system_logs,reverse_proxy,job_manager,auth"


@contextmanager
def socket(site: Site, token: str, types: str = ALL, **options: Any) -> Iterator[ClientConnection]:
    """Open the hub as the console does: with the token in the query, in a path of its own."""
    base = site.product.url.replace("http://", "ws://")
    url = f"{base}/api/v1//ws/subscribe/?event_types={types}&authorization={token}"
    with connect(url, **options) as opened:
        yield opened


def following(opened: ClientConnection, seconds: float = 30) -> Iterator[dict[str, Any]]:
    """Yield the messages that come within some seconds."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            yield json.loads(opened.recv(timeout=left))
        except TimeoutError:
            return


def until_message(opened: ClientConnection, name: str, **body: Any) -> dict[str, Any]:
    seen = []
    for told in following(opened):
        seen.append(told["message"])
        about = told.get("body") or {}
        if told["message"] == name and all(about.get(key) == body[key] for key in body):
            return told
    raise AssertionError(f"{name} did not come, but {seen}")


def test_the_console_watches_a_machine_come_and_go(site: Site) -> None:
    with site.tool("bob") as bob, socket(site, site.log_in("bob")) as opened:
        first = json.loads(opened.recv(timeout=10))
        assert first["event_type"] == "global"
        assert first["body"]["client_id"] == first["client_id"]
        assert set(first["body"]["subscriptions"]) == {"global", *ALL.split(",")}
        opened.send(json.dumps({"id": "p1", "event_type": "health", "message": "ping"}))
        pong = until_message(opened, "pong")
        assert (pong["ref_id"], pong["event_type"]) == ("p1", "health")
        opened.send(json.dumps({"event_type": "system", "message": "client-id"}))
        assert until_message(opened, "client-id")["body"] == {"client-id": first["client_id"]}
        opened.send("nonsense")

        body = {"name": "seen", "architecture": "arm64", "startOnCreate": True}
        begun = bob.post(f"{POOL}/async", json=body | {"catalog_manifest": MANIFEST}).json()
        added = until_message(opened, "VM_ADDED")
        vm_id = added["body"]["vm_id"]
        assert bob.get(f"{POOL}/{vm_id}").json()["Name"] == "seen"
        ran = until_message(opened, "HOST_VM_STATE_CHANGED")
        while ran["body"]["event"]["current_state"] != "running":
            ran = until_message(opened, "HOST_VM_STATE_CHANGED")
        assert ran["body"]["host_id"] in site.hosts.values()
        done = until_message(opened, "JOB_COMPLETED")
        assert (done["body"]["id"], done["body"]["state"]) == (begun["id"], "completed")
        # Ended subscriptions are silent: by REST, for one's own connection alone.
        for tool, types in (("eve", "job_manager"), ("bob", "pdfm")):
            with site.tool(tool) as asking:
                ended = {"client_id": first["client_id"], "user_id": "x", "event_types": [types]}
                assert asking.post("/ws/unsubscribe", json=ended).status_code == 200
        assert bob.delete(f"{POOL}/seen", params={"force": "true"}).status_code == 202
        names = []
        for told in following(opened):
            names.append((told["event_type"], told["message"]))
            if told["message"] == "HOST_VM_REMOVED":
                break
        assert ("orchestrator", "HOST_VM_REMOVED") in names
        assert not [one for one in names if one[0] == "pdfm"]
        assert [one for one in names if one[0] == "job_manager"]
    finished(site)


def test_nobody_hears_what_is_not_theirs_and_everybody_is_let_go(site: Site) -> None:
    eve_token, admin_token = site.log_in("eve"), site.log_in("root")
    with (
        site.tool("bob") as bob,
        socket(site, eve_token) as eve,
        socket(site, admin_token, "orchestrator,auth,stats") as admin,
    ):
        create(bob, "private")
        heard = [told["event_type"] for told in following(eve, 3)]
        assert heard == ["global"]
        assert until_message(admin, "HOST_VM_STATE_CHANGED")
        ok(site.admin.post(f"/hosts/{site.hosts['mac-3']}/disable/", json={"reason": "test"}))
        ok(site.admin.post(f"/hosts/{site.hosts['mac-3']}/enable/"))
        stats = until_message(admin, "System Stats")
        assert stats["body"]["memory_bytes"] > 0
        # Deactivated: the socket ends within two seconds (asserted with five times as long).
        user = ok(site.admin.get("/users/", params={"username": "eve"}))["results"][0]
        began = time.monotonic()
        ok(site.admin.patch(f"/users/{user['id']}/", json={"active": False}))
        with pytest.raises(ConnectionClosed):
            while True:
                eve.recv(timeout=10)
        assert time.monotonic() - began < 10
        assert until_message(admin, "USER_UPDATED", user_id=user["id"])
        ok(site.admin.patch(f"/users/{user['id']}/", json={"active": True}))
    finished(site)


def test_who_may_not_connect(site: Site) -> None:
    token = site.log_in("bob")
    for given, options in (
        ("", {}),
        ("nonsense", {}),
        (token, {"origin": "https://evil.example"}),
    ):
        with pytest.raises(InvalidStatus) as refused, socket(site, given, **options):
            pass
        assert refused.value.response.status_code == 401
    own = site.product.url
    with socket(site, token, origin=own) as opened:
        assert json.loads(opened.recv(timeout=10))["event_type"] == "global"
    base = site.product.url.replace("http://", "ws://")
    log = f"{base}/api/v1/orchestrator/hosts/{site.hosts['mac-1']}/logs/stream"
    with pytest.raises(InvalidStatus), connect(f"{log}?authorization={token}"):
        pass
    bearer = {"Authorization": f"Bearer {site.log_in('root')}"}  # as VS Code sends it
    with connect(log, additional_headers=bearer) as lines:
        assert "/api/" in lines.recv(timeout=15)


@pytest.mark.parametrize(
    ("known", "lines", "fresh"),
    [
        ([], ["a"], ["a"]),
        (["a", "b"], ["a", "b"], []),
        (["a", "b"], ["b", "c"], ["c"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a"], ["x", "y"], ["x", "y"]),
    ],
)
def test_only_new_lines_of_a_log_are_sent(
    known: list[str], lines: list[str], fresh: list[str]
) -> None:
    assert new_lines(known, lines) == fresh
