"""No host and no webhook at an address that only machines in this place may ask."""

from __future__ import annotations

import asyncio

import pytest

from accounts.actors import Actor
from events.webhooks import addresses
from hosts import enrolment
from hosts.drivers import Connection, ErrorKind, HostError, open_async_driver, open_driver
from hosts.drivers.parallels import guard
from orchestrator.addresses import is_forbidden
from orchestrator.refusals import Invalid

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
