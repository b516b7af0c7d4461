"""What hosts and our log tell: to which sockets it goes, by what they may see at that moment."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from compat.events.guard import Watcher
from compat.events.messages import TYPES
from compat.events.relayed import Relay
from compat.events.relayed import of_host as read_host
from compat.events.relayed import of_log as read_log
from compat.events.socket import QUEUE, Socket
from orchestrator.web.fleeting import HOSTS, LOGS
from tests.support.product import OwnRedis

if TYPE_CHECKING:
    from pathlib import Path

HOST = {"host": "h1", "name": "System Log", "topic": "log", "body": {"message": "m"}}
STATS = HOST | {"name": "System Stats", "topic": "stats", "body": {"cpu_percent": 1}}
PROXY = HOST | {"name": "REVERSE_PROXY_STATE_CHANGED", "topic": "proxy", "body": {"enabled": True}}
TRAFFIC = HOST | {"name": "HTTP Traffic Forwarded", "topic": "traffic", "body": {"path": "/"}}
LINE = {"level": "info", "message": "m", "time": "t"}


def socket(*permissions: str, types: Any = TYPES) -> Socket:
    return Socket(Watcher(uuid4(), frozenset(permissions)), frozenset(types))


def heard(one: Socket) -> list[tuple[str, str, Any]]:
    told = []
    while not one._waiting.empty():
        message = json.loads(one._waiting.get_nowait())
        told.append((message["event_type"], message["message"], message["body"]))
    return told


def give(relay: Relay) -> None:
    for told in (HOST, STATS, PROXY, TRAFFIC):
        relay._give(json.dumps(told), read_host)
    relay._give(json.dumps(LINE), read_log)


def test_each_hears_what_it_subscribed_to_and_may_see() -> None:
    stats = ("orchestrator", "HOST_STATS_UPDATE", {"host_id": "h1", "stats": {"cpu_percent": 1}})
    log = ("orchestrator", "HOST_LOGS_UPDATE", {"host_id": "h1", "log": {"message": "m"}})
    about = {"host_id": "h1", "event": {"enabled": True}}
    proxy = [
        ("reverse_proxy", PROXY["name"], {"host_id": "h1", "enabled": True}),
        ("orchestrator", "HOST_REVERSE_PROXY_UPDATED", about),
        ("reverse_proxy", TRAFFIC["name"], {"host_id": "h1", "path": "/"}),
    ]
    ours = ("system_logs", "System Log", LINE)
    sockets = {
        "developer": (socket("vms.use"), []),
        "viewer": (socket("hosts.view"), [stats, *proxy]),
        "operator": (socket("hosts.view", "hosts.logs"), [log, stats, *proxy]),
        "logs": (socket("hosts.logs", types=["orchestrator"]), []),
        "proxies": (socket("hosts.view", types=["reverse_proxy"]), [proxy[0], proxy[2]]),
        "auditor": (
            socket("hosts.view", "hosts.logs", "audit.view"),
            [log, stats, *proxy, ours],
        ),
        "half": (socket("audit.view", types=["system_logs"]), []),
    }
    relay = Relay(lambda: [one for one, _ in sockets.values()])
    give(relay)
    assert {name: heard(one) for name, (one, _) in sockets.items()} == {
        name: expected for name, (_, expected) in sockets.items()
    }
    one = sockets["auditor"][0]
    one.watcher.permissions = frozenset()  # as the look of the next second finds
    give(relay)
    assert heard(one) == []


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"host": 1, "topic": "new"}'])
def test_what_another_version_says_ends_nothing(text: str) -> None:
    one = socket("hosts.view")
    relay = Relay(lambda: [one])
    relay._give(text, read_host)
    relay._give(json.dumps(STATS), read_host)
    assert len(heard(one)) == 1


def test_a_slow_client_loses_messages_which_are_counted() -> None:
    one = socket("hosts.view")
    relay = Relay(lambda: [one])
    for _ in range(QUEUE + 5):
        relay._give(json.dumps(STATS), read_host)
    assert one.dropped == 5


def test_a_channel_is_listened_to_while_a_socket_wants_it_and_nobody_waits_for_that(
    tmp_path: Path, settings: Any
) -> None:
    server = OwnRedis(tmp_path)  # one that answers: to connect takes its time
    server.start()
    settings.REDIS_URL = server.url

    async def check() -> None:
        relay = Relay(list)
        with relay.for_types(frozenset({"reverse_proxy"})):
            assert set(relay._hubs) == {HOSTS}
            with relay.for_types(frozenset(TYPES)):
                assert set(relay._hubs) == {HOSTS, LOGS}
            assert set(relay._hubs) == {HOSTS}
        assert not relay._hubs
        # Left at any moment of making the connection: it ends all the same.
        for turns in range(40):
            with relay.for_types(frozenset(TYPES)):
                for _ in range(turns):
                    await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while relay._stopping:
                await asyncio.sleep(0.01)

    try:
        asyncio.run(check())
    finally:
        server.stop()
