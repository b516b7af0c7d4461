"""No host and no webhook at an address that only machines in this place may ask."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from accounts.actors import Actor
from events.models import Delivery, Webhook
from events.webhooks import addresses, sending
from events.webhooks.signing import new_secret
from hosts import enrolment
from hosts.drivers import Connection, ErrorKind, HostError, open_async_driver, open_driver
from hosts.drivers.parallels import guard, transport
from orchestrator.addresses import is_forbidden
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

FORBIDDEN = [
    "169.254.169.254",
    "169.254.1.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "100.100.100.200",
    "192.0.0.192",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "255.255.255.255",
]
NORMAL = ["10.0.0.7", "192.168.1.4", "172.16.0.1", "100.64.0.9", "fd12::1", "8.8.8.8", "2606::1"]


@pytest.mark.parametrize("ip", FORBIDDEN)
def test_hosts_and_webhooks_share_what_is_forbidden(ip):
    assert is_forbidden(ip)
    assert not addresses.is_allowed(ip)


@pytest.mark.parametrize("ip", NORMAL)
def test_private_networks_are_normal(ip):
    assert not is_forbidden(ip)
    assert addresses.is_allowed(ip)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254",
        "http://[::ffff:169.254.169.254]:3080",
        "https://[fd00:ec2::254]",
        "http://2852039166",  # the first one, as a number
        "http://0:3080",
    ],
)
def test_such_a_host_is_not_enrolled(alice, url):
    with pytest.raises(Invalid) as refused:
        enrolment.enrol(Actor(alice), name="mac-1", url=url, username="root", password="secret")
    assert refused.value.code == "host_forbidden_address"
    assert "url" in refused.value.errors


def test_a_name_that_leads_there_later_gets_no_request(monkeypatch, simulation):
    """Loopback stands in for the forbidden address: what is looked at is the connection's end."""
    monkeypatch.setattr(guard, "is_forbidden", lambda ip: ip == "127.0.0.1")
    monkeypatch.setattr(transport, "_clients", {})  # no connection that other tests have opened
    connection = Connection(simulation.host_url(1) + "/api", "root@localhost", "simulated")
    before = simulation.control()["hosts"][0].get("requests")
    driver = open_driver("parallels", connection)
    with pytest.raises(HostError) as refused:
        driver.probe()
    driver.close()
    assert refused.value.kind is ErrorKind.FORBIDDEN_ADDRESS
    assert not refused.value.outcome_unknown

    async def ask() -> None:
        asking = open_async_driver("parallels", connection)
        try:
            await asking.probe()
        finally:
            await asking.aclose()

    with pytest.raises(HostError) as refused:
        asyncio.run(ask())
    assert refused.value.kind is ErrorKind.FORBIDDEN_ADDRESS
    assert simulation.control()["hosts"][0].get("requests") == before


def follow(connection: Connection) -> HostError:
    """Follow a host's events until that ends, and return why."""

    async def read() -> None:
        driver = open_async_driver("parallels", connection)
        try:
            async for _ in driver.news():
                raise AssertionError("It was connected.")
        finally:
            await driver.aclose()

    with pytest.raises(HostError) as ended:
        asyncio.run(asyncio.wait_for(read(), 10))
    return ended.value


def test_events_of_a_host_are_guarded_at_each_connection(monkeypatch, simulation):
    """The name may lead elsewhere by then: the login goes through here, the events do not."""
    connection = Connection(simulation.host_url(1) + "/api", "root@localhost", "simulated")
    looked = []

    def forbidden(end):
        looked.append(end)
        raise guard.ForbiddenAddress(guard.SENTENCE)

    monkeypatch.setattr("hosts.drivers.parallels.events.refuse_forbidden_end", forbidden)
    before = simulation.control()["hosts"][0].get("subscribers")
    assert follow(connection).kind is ErrorKind.FORBIDDEN_ADDRESS
    assert [end[0] for end in looked] == ["127.0.0.1"]
    assert simulation.control()["hosts"][0].get("subscribers") == before


@contextmanager
def redirecting() -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield the URL of a server that sends everybody on, what was asked there, and what behind."""
    asked: list[str] = []
    followed: list[str] = []

    def handler(paths: list[str], answer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                paths.append(self.path)
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer(self)

            do_GET = do_POST = do_PUT = do

            def log_message(self, *_: object) -> None: ...

        return Handler

    def take(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()

    behind = ThreadingHTTPServer(("127.0.0.1", 0), handler(followed, take))

    def send_on(request: BaseHTTPRequestHandler) -> None:
        if "auth/token" in request.path:  # so that a driver comes as far as its events
            body = b'{"token": "a.b.c", "email": "root", "expires_at": 4102444800}'
            request.send_response(200)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
            return
        request.send_response(302)
        request.send_header("Location", f"http://127.0.0.1:{behind.server_port}{request.path}")
        request.send_header("Content-Length", "0")
        request.end_headers()

    front = ThreadingHTTPServer(("127.0.0.1", 0), handler(asked, send_on))
    for server in (front, behind):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{front.server_port}", asked, followed
    finally:
        for server in (front, behind):
            server.shutdown()
            server.server_close()


@pytest.mark.django_db
def test_nobody_is_sent_on_to_another_address(settings):
    """A redirect could lead to where no host and no webhook may be."""
    settings.WEBHOOK_ALLOW_LOOPBACK = True
    with redirecting() as (url, asked, followed):
        connection = Connection(url + "/api", "root@localhost", "secret")
        assert follow(connection)
        assert any("ws/subscribe" in path for path in asked), asked
        driver = open_driver("parallels", connection)
        with pytest.raises(HostError):
            driver.list_vms()
        driver.close()
        webhook = Webhook(url=f"{url}/hook", secret=new_secret(), cursor=0)
        attempt = sending.send(webhook, Delivery(webhook=webhook, kind="ping", body="{}"))
        assert (attempt.status, attempt.arrived) == (302, False)
        assert "/hook" in asked
        assert followed == []
