from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hosts.models import Host, HostCapacity, HostStatus, HostVM
from tests.api.conftest import Api, is_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.simulation import Simulation

pytestmark = pytest.mark.django_db
MISSING = "01890000-0000-7000-8000-000000000000"
SECRETS = {"username": "root@localhost", "password": "simulated"}


def make_host(name: str = "mac-1") -> Host:
    host = Host.objects.create(
        name=name, url=f"http://{name}:80", username="root", password="hidden-secret", tags=["ci"]
    )
    HostStatus.objects.create(host=host, health="healthy", architecture="arm64")
    HostCapacity.objects.create(host=host, cpus_total=8, cpus_reserved=1, cpus_charged=2)
    return host


def test_hosts_are_shown_without_their_credentials(admin: Api, developer: Api) -> None:
    host = make_host()
    response = admin.get(f"hosts/{host.pk}/")
    body = response.json()
    assert (body["name"], body["health"], body["tags"]) == ("mac-1", "healthy", ["ci"])
    assert body["capacity"]["cpus"] == {
        "total": 8,
        "reserved": 1,
        "foreign": 0,
        "charged": 2,
        "free": 5,
    }
    assert body["authentication"] == "password"
    assert "hidden-secret" not in response.content.decode()
    assert not body.keys() & {"username", "password", "api_key"}
    assert admin.get("hosts/").json()["results"] == [body]
    assert developer.get("hosts/").json()["results"] == []
    assert is_problem(developer.get(f"hosts/{host.pk}/"), 404, "not_found")
    assert is_problem(admin.get(f"hosts/{MISSING}/"), 404)


def test_hosts_are_filtered(admin: Api) -> None:
    make_host("mac-1")
    other = make_host("mac-2")
    HostStatus.objects.filter(host=other).update(health="degraded", architecture="x86_64")

    def names(query: str) -> list[str]:
        return [host["name"] for host in admin.get(f"hosts/?{query}").json()["results"]]

    assert names("health=degraded") == ["mac-2"]
    assert names("health=degraded&health=healthy") == ["mac-2", "mac-1"]
    assert names("architecture=arm64") == ["mac-1"]
    assert names("name=MAC-1") == ["mac-1"]
    assert is_problem(admin.get("hosts/?health=fine"), 400)


def test_holds_are_set_and_ended_as_jobs(admin: Api, developer: Api) -> None:
    host = make_host()
    held = admin.post(f"hosts/{host.pk}/cordon/", {"reason": "new disk"})
    assert held.status_code == 202
    assert (held.json()["kind"], held.json()["state"]) == ("host.cordon", "done")
    assert held.json()["subject"] == f"host:{host.pk}"
    admin.post(f"hosts/{host.pk}/disable/", {"reason": "moving", "until": "2999-01-01T00:00:00Z"})
    holds = {hold["kind"]: hold for hold in admin.get(f"hosts/{host.pk}/").json()["holds"]}
    assert holds["cordon"]["reason"] == "new disk"
    assert holds["cordon"]["by"]["name"] == "alice"
    assert holds["disable"]["until"] == "2999-01-01T00:00:00Z"
    assert admin.post(f"hosts/{host.pk}/uncordon/").status_code == 202
    assert admin.post(f"hosts/{host.pk}/enable/").status_code == 202
    assert admin.get(f"hosts/{host.pk}/").json()["holds"] == []
    assert is_problem(admin.post(f"hosts/{host.pk}/uncordon/"), 409, "conflict")
    assert is_problem(admin.post(f"hosts/{host.pk}/cordon/"), 400)
    late = admin.post(f"hosts/{host.pk}/cordon/", {"reason": "x", "until": "2001-01-01T00:00:00Z"})
    assert is_problem(late, 400)
    assert is_problem(developer.post(f"hosts/{host.pk}/cordon/", {"reason": "x"}), 404)


def test_a_verb_is_refused_to_whoever_only_sees(api_of: Callable[..., Api], audrey: Any) -> None:
    host = make_host()
    refused = api_of(audrey).post(f"hosts/{host.pk}/cordon/", {"reason": "x"})
    assert is_problem(refused, 403, "forbidden")


def test_an_inventory_is_a_queued_job(admin: Api) -> None:
    host = make_host()
    asked = admin.post(f"hosts/{host.pk}/inventory/")
    assert asked.status_code == 202
    assert (asked.json()["kind"], asked.json()["state"]) == ("host.inventory", "queued")


def test_names_and_tags_are_changed(admin: Api, api_of: Callable[..., Api], audrey: Any) -> None:
    host = make_host()
    tag = admin.get(f"hosts/{host.pk}/")["ETag"]
    HostStatus.objects.filter(host=host).update(latency_ms=5)  # observed: no other edition
    changed = admin.patch(f"hosts/{host.pk}/", {"tags": ["fast", "ci"]}, If_Match=tag)
    assert changed.status_code == 200, changed.content
    assert changed.json()["tags"] == ["ci", "fast"]
    assert is_problem(admin.patch(f"hosts/{host.pk}/", {"name": "x"}, If_Match=tag), 412)
    assert is_problem(admin.patch(f"hosts/{host.pk}/", {"url": "http://x"}), 400)
    assert is_problem(api_of(audrey).patch(f"hosts/{host.pk}/", {"name": "x"}), 403)


def test_a_host_is_removed(admin: Api) -> None:
    host = make_host()
    assert is_problem(admin.delete(f"hosts/{host.pk}/?forget_vms=perhaps"), 400)
    removed = admin.delete(f"hosts/{host.pk}/?forget_vms=true")
    assert removed.status_code == 202
    assert removed.json()["kind"] == "host.remove"
    assert is_problem(admin.get(f"hosts/{host.pk}/"), 404)
    assert is_problem(admin.delete(f"hosts/{host.pk}/"), 404)


def test_listed_vms_are_paged(admin: Api, developer: Api) -> None:
    host = make_host()
    for number in range(3):
        HostVM.objects.create(
            host=host,
            host_vm_id=f"id-{number}",
            name=f"vm-{number}",
            state="running",
            type="PVM",
            seen_at="2026-01-01T00:00Z",
        )
    page = admin.get(f"hosts/{host.pk}/vms/?page_size=2").json()
    rest = admin.get(page["next"]).json()
    assert [vm["name"] for vm in page["results"] + rest["results"]] == ["vm-0", "vm-1", "vm-2"]
    assert is_problem(developer.get(f"hosts/{host.pk}/vms/"), 404)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "x"}, "url"),
        ({"name": "x", "url": "not a url", **SECRETS}, "url"),
        ({"name": "x", "url": "http://\0", **SECRETS}, "url"),
        ({"name": "x", "url": 5, **SECRETS}, "url"),
        ({"name": "x", "url": "http://127.0.0.1:9"}, "username"),
        ({"name": "x", "url": "http://127.0.0.1:9", **SECRETS}, "url"),
        ({"name": "x", "url": "http://127.0.0.1:9", **SECRETS, "tags": "ci"}, "tags"),
    ],
)
def test_a_bad_enrolment_says_what_is_wrong(admin: Api, body: Any, field: str) -> None:
    response = admin.post("hosts/", body)
    assert is_problem(response, 400)
    assert field in response.json()["errors"]
    assert "simulated" not in response.content.decode()


def test_a_developer_enrols_nothing(developer: Api) -> None:
    body = {"name": "x", "url": "http://127.0.0.1:9", **SECRETS}
    assert is_problem(developer.post("hosts/", body), 403, "forbidden")


@pytest.mark.django_db(transaction=True)
def test_a_host_is_enrolled_once(admin: Api, simulation: Simulation) -> None:
    simulation.reset()
    body = {"name": "sim-1", "url": simulation.host_url(1), **SECRETS}
    made = admin.post("hosts/", body, Idempotency_Key="enrol-1")
    assert made.status_code == 201, made.content
    assert made.json()["health"] == "healthy"
    again = admin.post("hosts/", body, Idempotency_Key="enrol-1")
    assert again["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == made.json()["id"]
    assert is_problem(admin.post("hosts/", body), 400, "host_enrolled")
    wrong = admin.post(
        "hosts/", {**body, "name": "sim-2", "url": simulation.host_url(2), "password": "no"}
    )
    assert is_problem(wrong, 400, "host_credentials")


@pytest.mark.django_db(transaction=True)
def test_a_host_is_enrolled_without_a_key(admin: Api, simulation: Simulation) -> None:
    simulation.reset()
    body = {"name": "sim-3", "url": simulation.host_url(3), **SECRETS}
    made = admin.post("hosts/", body)
    assert made.status_code == 201, made.content
    assert admin.get(made["Location"]).json()["id"] == made.json()["id"]


def test_the_list_costs_the_same_for_many_rows(
    admin: Api, django_assert_num_queries: Callable[..., Any]
) -> None:
    make_host("mac-0")
    admin.get("hosts/")
    for number in (1, 2):
        make_host(f"mac-{number}")
        with django_assert_num_queries(4):
            admin.get("hosts/")
