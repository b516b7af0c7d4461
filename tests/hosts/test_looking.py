"""Logs and reverse proxies, read from simulated hosts at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse

from accounts.actors import Actor
from hosts import enrolment, looking
from hosts.models import HostStatus
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.api.conftest import Api, is_problem, make_token

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from hosts.models import Host
    from tests.hosts.conftest import Pool

KEY = {"X-Api-Key": "c2ltOnNpbQ=="}


@pytest.fixture
def host(transactional_db: None, pool: Pool, admin: Actor) -> Host:
    login = {"username": "root@localhost", "password": "simulated"}
    return enrolment.enrol(admin, name="mac1", url=pool.address(), **login)


def tell(pool: Pool, method: str, path: str, body: Any = None) -> None:
    pool.http.request(method, f"{pool.address()}/api{path}", json=body, headers=KEY)


def test_the_end_of_the_log_without_secrets(pool: Pool, host: Host, admin: Actor) -> None:
    for number in range(5):
        tell(pool, "DELETE", f"/cache/image-{number}")
    tell(pool, "DELETE", "/cache/password=open-sesame")
    lines = looking.logs(admin, host, 3)
    assert len(lines) == 3
    assert "[DELETE] /api/cache/image-3" in lines[0]
    assert "password=" in lines[2]
    assert "open-sesame" not in lines[2]
    for wrong in (0, 1001):
        with pytest.raises(Invalid):
            looking.logs(admin, host, wrong)


def test_what_a_proxy_does_without_its_keys(pool: Pool, host: Host, admin: Actor) -> None:
    proxy = looking.reverse_proxy(admin, host)
    assert proxy
    assert (proxy.enabled, proxy.hosts) == (False, ())
    tell(
        pool,
        "POST",
        "/reverse-proxy/hosts",
        {
            "name": "web",
            "host": "0.0.0.0",
            "port": "443",
            "tls": {"enabled": True, "cert": "CERT", "key": "KEY"},
            "http_routes": [{"path": "/", "target_vm_id": "{vm-1}", "target_port": "80"}],
        },
    )
    tell(
        pool,
        "POST",
        "/reverse-proxy/hosts",
        {"host": "127.0.0.1", "port": "22", "tcp_route": {"target_host": "a", "target_port": 5}},
    )
    proxy = looking.reverse_proxy(admin, host)
    assert proxy
    web, ssh = proxy.hosts
    assert (proxy.enabled, web.name, web.port, web.tls) == (True, "web", "443", True)
    assert [vars(route) for route in (*web.routes, *ssh.routes)] == [
        {"path": "/", "target": "{vm-1}", "target_is_vm": True, "target_port": "80"},
        {"path": "", "target": "a", "target_is_vm": False, "target_port": "5"},
    ]
    assert "KEY" not in repr(proxy)


def test_a_host_that_is_away_is_not_asked_or_says_so(
    pool: Pool, host: Host, admin: Actor, bob: User
) -> None:
    with pytest.raises(Forbidden):
        looking.logs(Actor(user=bob), host)
    pool.patch(up=False)
    with pytest.raises(Conflict, match=r"^mac1: "):
        looking.logs(admin, host)
    pool.patch(up=True)
    HostStatus.objects.filter(pk=host.pk).update(health="unreachable", reason="It is off.")
    host.status.refresh_from_db()
    with pytest.raises(Conflict, match="does not answer: It is off") as refused:
        looking.reverse_proxy(admin, host)
    assert refused.value.code == "host_away"
    assert "reverse_proxy" not in pool.look()["requests"]


def test_few_reads_at_once(host: Host, admin: Actor) -> None:
    first, second = looking.asking(host), looking.asking(host)
    with first, second, pytest.raises(Conflict, match="Try again"):
        looking.logs(admin, host)
    assert isinstance(looking.logs(admin, host), tuple)


def test_by_page_and_api(pool: Pool, host: Host, client: Client, alice: User, bob: User) -> None:
    tell(pool, "DELETE", "/cache/shown")
    client.force_login(alice)
    page = client.get(reverse("hosts:detail", args=[host.pk])).content.decode()
    logs, proxy = (reverse(f"hosts:{name}", args=[host.pk]) for name in ("logs", "reverse-proxy"))
    assert logs in page
    assert proxy in page
    assert "/api/cache/shown" in client.get(logs).content.decode()
    assert client.get(f"{logs}?lines=0").status_code == 422
    assert "listens nowhere" in client.get(proxy).content.decode()
    api = Api(make_token(alice, "read"))
    assert "shown" in api.get(f"hosts/{host.pk}/logs/?lines=1").json()["lines"][0]
    assert is_problem(api.get(f"hosts/{host.pk}/logs/?lines=many"), 400)
    answer = api.get(f"hosts/{host.pk}/reverse-proxy/").json()
    assert (answer["available"], answer["hosts"]) == (True, [])
    assert is_problem(Api(make_token(bob)).get(f"hosts/{host.pk}/logs/"), 404)
    pool.patch(up=False)
    assert is_problem(api.get(f"hosts/{host.pk}/logs/"), 409, "host_failed")
    assert client.get(logs).status_code == 409
