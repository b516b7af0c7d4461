"""The events hub, over real WebSockets of the running product."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from compat.events.logs import new_lines
from tests.contract.running import Site, finished
from tests.contract.test_machines import MANIFEST, POOL, create
from tests.support.product import until
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


def nothing_but_herself(opened: ClientConnection, seconds: float) -> bool:
    """Return whether the connection is told nothing, but maybe of the account that logged in."""
    types = [told["event_type"] for told in following(opened, seconds)]
    return [one for one in types if one != "auth"] == ["global"]


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
        assert nothing_but_herself(eve, 3)
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


@pytest.fixture
def watched(site: Site) -> Iterator[Site]:
    """The site while a watcher follows its hosts."""
    site.product.start("watcher")
    yield site
    site.product.kill("watcher")


def test_hosts_and_our_log_tell_of_themselves_to_those_who_may_hear(watched: Site) -> None:
    site, types = watched, f"{ALL},catalog_cache"
    mac = site.hosts["mac-1"]
    with (
        socket(site, site.log_in("eve"), types) as eve,
        socket(site, site.log_in("root"), types) as root,
        site.tool("root") as tool,
    ):
        assert until_message(root, "HOST_STATS_UPDATE", host_id=mac)["body"]["stats"].keys() >= {
            *("cpu_percent", "memory_bytes", "memory_alloc_bytes", "goroutines")
        }
        proxies = f"/orchestrator/hosts/{mac}/reverse-proxy/hosts"
        route = {"path": "/", "target_host": "10.0.0.9", "target_port": "80", "schema": "http"}
        body = {"name": "web", "host": "0.0.0.0", "port": "8081", "http_routes": [route]}
        proxy = ok(tool.post(proxies, json=body))
        line = until_message(root, "HOST_LOGS_UPDATE", host_id=mac)["body"]["log"]
        assert line.keys() == {"level", "message", "time"}
        changed = until_message(
            root, "REVERSE_PROXY_HOST_STATE_CHANGED", reverse_proxy_host_id=proxy["id"]
        )
        assert (changed["event_type"], changed["body"]["host_id"]) == ("reverse_proxy", mac)
        site.simulation.control(1, traffic=8081)
        forwarded = until_message(root, "HTTP Traffic Forwarded", host_id=mac)
        assert forwarded["body"]["target"] == "10.0.0.9:80"
        assert tool.delete(f"{proxies}/{proxy['id']}").status_code == 202

        assert tool.delete("/cache").status_code == 202
        until(lambda: not ok(tool.get("/cache"))["manifests"], 20, "no host has cached anything")
        cached = {"catalog_id": "UBUNTU-2404", "version": "1.0.0", "architecture": "arm64"}
        with site.tool("bob") as bob:
            create(bob, "cached")
        added = until_message(root, "CACHE_ITEM_ADDED", **cached)
        assert added["body"]["host_id"] in site.hosts.values()
        assert tool.delete("/cache").status_code == 202
        until_message(root, "CACHE_ITEM_REMOVED", **cached, host_id=added["body"]["host_id"])

        httpx.get(f"{site.product.url}/nothing-here?access_token=planted")
        line = until_message(root, "System Log")["body"]
        while "nothing-here" not in line["message"]:
            line = until_message(root, "System Log")["body"]
        assert line["level"] == "warning"
        assert "planted" not in line["message"]
        assert set(line) == {"level", "message", "time"}

        clients = ok(tool.get("/ws/clients"))
        assert {one["username"] for one in clients} >= {"eve", "root"}
        mine = next(one for one in clients if one["username"] == "root")
        assert mine["subscriptions"] == sorted({"global", *types.split(",")})
        assert mine["messages_sent"] > 0
        stats = ok(tool.get("/ws/stats"))
        assert stats["total_clients"] == len(clients)
        assert stats["type_stats"]["catalog_cache"] == 2
        with site.tool("bob") as bob:
            assert bob.get("/ws/clients").status_code == 401
            assert bob.get("/ws/stats").status_code == 401
        assert nothing_but_herself(eve, 1)
    until(lambda: _none_connected(site), 10, "who left is no longer told")
    finished(site)


def _none_connected(site: Site) -> bool:
    with site.tool("root") as tool:
        return ok(tool.get("/ws/clients")) == []


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
