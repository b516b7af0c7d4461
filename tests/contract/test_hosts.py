"""Hosts over the compatible API, against the running product and its simulated hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.contract.running import LOGIN, Site, finished
from tests.contract.test_machines import create, said
from tests.support.product import until
from tests.support.simulation import simulated_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.simulation import Simulation

HOSTS = "/orchestrator/hosts"


@pytest.fixture
def admin(site: Site) -> Iterator[httpx.Client]:
    with site.tool("root") as tool:
        yield tool
    finished(site)


@pytest.fixture(scope="module")
def others() -> Iterator[Simulation]:
    """Hosts that are not enrolled."""
    with simulated_hosts(2, "--seed", "7") as made:
        yield made


def test_a_host_comes_changes_and_goes(site: Site, admin: httpx.Client, others: Simulation) -> None:
    body: dict[str, Any] = {
        "host": others.host_url(1),
        "description": "rack-9",
        "tags": ["ios", "m2"],
        "authentication": LOGIN,
        "required_roles": [],
    }
    assert said(admin.post(HOSTS, json=body | {"required_roles": ["X"]}), 400, "grants")
    assert said(admin.post(HOSTS, json={"host": "http://a"}), 400, "authentication")
    made = admin.post(HOSTS, json=body)
    assert made.status_code == 201, made.text
    host = made.json()
    assert (host["description"], host["enabled"], host["state"]) == ("rack-9", True, "healthy")
    assert host["host"] == f"{others.host_url(1)}/api"
    assert {"logical_cpu_count", "memory_size", "disk_size"} == host["resources"].keys()
    assert host["detailed_resources"]["total_available"]["logical_cpu_count"] > 0
    assert "simulated" not in made.text
    assert said(admin.post(HOSTS, json=body), 400, "enrolled")
    one = f"{HOSTS}/{host['id']}"
    assert admin.get(one).json()["id"] == host["id"]
    filtered = admin.get(HOSTS, headers={"X-Filter": "Tags=ios"}).json()
    assert [row["description"] for row in filtered] == ["rack-9"]
    for verb in ("disable", "disable", "enable", "enable"):  # each of them twice
        told = admin.put(f"{one}/{verb}")
        assert (told.status_code, told.json()["enabled"]) == (200, verb == "enable")
    changed = admin.put(one, json={"host": others.host_url(1), "description": "rack-10"})
    assert (changed.status_code, changed.json()["description"]) == (201, "rack-10")
    assert said(admin.put(one, json={"host": "http://127.0.0.1:1"}), 400, "keeps its address")
    hardware = admin.get(f"{one}/hardware")
    assert hardware.status_code == 200
    assert "disk_count" in hardware.json()["total_available"]
    assert admin.get(f"/orchestrator/overview/{host['id']}/resources").status_code == 202
    overview = admin.get("/orchestrator/overview/resources")
    assert overview.status_code == 202
    assert {row["cpu_type"] for row in overview.json()} == {"arm64", "x86_64"}
    # A bundle of its disk is listed, and is not any more.
    bundle = {"path": "/Users/parallels/golden.pvm", "owner": "ci", "machine_name": "golden"}
    listed = admin.post(f"{one}/machines/register", json=bundle)
    if listed.status_code == 200:  # as the simulator has it on its disk
        left = admin.post(f"{one}/machines/{listed.json()['ID']}/unregister", json={"id": "x"})
        assert left.json() == {"success": True}
    # Both spellings of its cache.
    for path in (f"{one}/cache", f"{one}/catalog/cache"):
        assert admin.get(path).json()["manifests"] == []
        assert said(admin.delete(f"{path}/nothing/1"), 404)
    logs = admin.get(f"{one}/logs")
    assert logs.headers["Content-Type"].startswith("text/plain")
    assert "/api/" in logs.text
    gone = admin.delete(one)
    assert (gone.status_code, gone.content) == (202, b"")
    assert said(admin.delete(one), 404)
    assert said(admin.get(one), 404)


def test_a_host_enrols_itself(site: Site, admin: httpx.Client, others: Simulation) -> None:
    asked = admin.post(
        "/orchestrator/enrollment-token", json={"host_name": "mac-new", "ttl_minutes": 30}
    )
    token = asked.json()["token"]
    assert (asked.status_code, len(token)) == (201, 72)
    with site.tool("bob") as bob:
        answer = bob.post("/orchestrator/enrollment-token", json={"host_name": "x"})
        assert answer.status_code == 401
    own = {"X-Enrollment-Token": token}
    body = {"host": others.host_url(2), "description": "other", "authentication": LOGIN}
    stranger = httpx.Client(timeout=30)
    base = f"{site.product.url}/api/v1"
    checked = stranger.get(f"{base}/orchestrator/enrollment-token/{token}/validate")
    assert checked.json()["valid"] is True
    assert said(stranger.post(f"{base}{HOSTS}", json=body, headers=own), 403, "another name")
    wrong = own | {"X-Enrollment-Token": "0" * 72}
    assert said(stranger.post(f"{base}{HOSTS}", json=body, headers=wrong), 403)
    assert stranger.post(f"{base}{HOSTS}", json=body).status_code == 401
    assert stranger.get(f"{base}{HOSTS}", headers=own).status_code == 401
    body["description"] = "mac-new"
    made = stranger.post(f"{base}{HOSTS}", json=body, headers=own)
    assert made.status_code == 201, made.text
    again = stranger.post(f"{base}{HOSTS}", json=body | {"host": "http://a"}, headers=own)
    assert said(again, 403, "not valid")
    told = stranger.get(f"{base}/orchestrator/enrollment-token/{token}/validate").json()
    assert told["valid"] is False
    assert admin.delete(f"{HOSTS}/{made.json()['id']}").status_code == 202


def test_a_reverse_proxy_is_relayed(site: Site, admin: httpx.Client) -> None:
    host = site.hosts["mac-2"]
    vm = create(admin, "web", f"{HOSTS}/{host}/machines")
    proxies = f"{HOSTS}/{host}/reverse-proxy"
    assert admin.get(proxies).json() == {"enabled": False, "host": "0.0.0.0", "port": "8080"}
    route = {"path": "/", "target_vm_id": vm["id"], "target_port": "80", "schema": "http"}
    body = {
        "name": "web",
        "host": "0.0.0.0",
        "port": "8443",
        "tls": {"enabled": True, "cert": "CERT", "key": "SECRET"},
        "http_routes": [route],
    }
    made = admin.post(f"{proxies}/hosts", json=body)
    assert made.status_code == 200, made.text
    assert "SECRET" not in made.text
    assert made.json()["http_routes"][0]["target_vm_id"] == vm["id"]
    # On the host it is the host's own id.
    theirs = site.simulation.control(2)["vms"]
    named = f"{proxies}/hosts/0.0.0.0:8443"
    for path in (named, f"{proxies}/hosts/{made.json()['id']}"):
        assert admin.get(path).json()["port"] == "8443"
    assert theirs[0]["id"] not in admin.get(named).text
    added = admin.post(f"{named}/http_routes", json=route | {"path": "/api"})
    first, second = added.json()["http_routes"]
    order = [{"id": first["id"], "order": 2}, {"id": second["id"], "order": 1}]
    ordered = admin.put(f"{named}/http_routes/order", json=order)
    assert ordered.status_code == 200, ordered.text
    assert [one["path"] for one in ordered.json()["http_routes"]] == ["/api", "/"]
    assert admin.delete(f"{named}/http_routes/{second['id']}").status_code == 202
    tcp = admin.post(f"{named}/tcp_route", json={"target_port": "22", "target_vm_id": "web"})
    assert tcp.json()["tcp_route"]["target_vm_id"] == vm["id"]
    renamed = admin.put(named, json={"name": "front"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "front")
    for verb in ("enable", "disable", "restart"):
        assert admin.put(f"{proxies}/{verb}").status_code == 202
    assert said(admin.post(f"{proxies}/hosts", json=body | {"name": "x" * 70_000}), 400, "at most")
    missing = body | {"port": "1", "http_routes": [route | {"target_vm_id": "no-such"}]}
    assert said(admin.post(f"{proxies}/hosts", json=missing), 404)
    assert admin.delete(named).status_code == 202
    assert said(admin.get(named), 404)
    with site.tool("bob") as bob:
        for method, path in (
            ("GET", proxies),
            ("POST", f"{proxies}/hosts"),
            ("GET", f"{HOSTS}/{host}/logs"),
            ("GET", f"{HOSTS}/{host}/cache"),
            ("DELETE", f"{HOSTS}/{host}/cache"),
            ("DELETE", f"{HOSTS}/{host}"),
            ("PUT", f"{HOSTS}/{host}/disable"),
        ):
            assert bob.request(method, path, json=body).status_code in (401, 404), path
        assert bob.get(HOSTS).json() == []
    events = site.admin.get("/audit/").json()["results"]
    assert "host.reverse_proxy_changed" in {one["action"] for one in events}
    assert not [one for one in events if "SECRET" in str(one)]


def test_the_cache_of_a_host_is_deleted(site: Site, admin: httpx.Client) -> None:
    host = site.hosts["mac-2"]
    create(admin, "fills", f"{HOSTS}/{host}/machines")
    cache = f"{HOSTS}/{host}/cache"

    def cached() -> list[str]:
        return [row["catalog_id"] for row in admin.get(cache).json()["manifests"]]

    until(lambda: cached() == ["UBUNTU-2404"], 30, "the copy is seen")
    gone = admin.delete(f"{cache}/ubuntu-2404/1.0.0")
    assert (gone.status_code, gone.content) == (202, b"")
    until(lambda: cached() == [], 30, "the copy is gone")
