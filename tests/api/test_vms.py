"""Templates, grants, VMs and images over the wire. Nothing here needs a host: VMs stay pending."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.test import Client

from accounts.models import AuditEvent, User
from orchestrator.web.waiting import HEADER
from tests.api.conftest import Api, is_problem, make_token
from tests.api.test_hosts import make_host
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db
MISSING = "01890000-0000-7000-8000-000000000000"
SIZE = {
    "cpus": 2,
    "memory_mib": 2048,
    "disk_gib": 32,
    "default_lease_seconds": 3600,
    "maximum_lease_seconds": 7200,
    "lease_end": "delete",
}


@pytest.fixture
def image(admin: Api) -> dict[str, Any]:
    connection = "host=ci:hidden-secret@http://127.0.0.1:9"
    source = admin.post("sources/", {"name": "Main", "connection": connection})
    assert source.status_code == 201, source.content
    made = admin.post(
        "images/",
        {
            "source": "main",
            "catalog_id": "ubuntu",
            "version": "24.04",
            "architecture": "arm64",
            "type": "pvm",
        },
    )
    assert made.status_code == 201, made.content
    return made.json()


@pytest.fixture
def template(admin: Api, image: dict[str, Any]) -> dict[str, Any]:
    made = admin.post("templates/", {"name": "ubuntu-ci", "images": [image["id"]], **SIZE})
    assert made.status_code == 201, made.content
    return made.json()


@pytest.fixture
def grant(admin: Api, template: dict[str, Any], bob: User) -> dict[str, Any]:
    made = admin.post("grants/", {"template": "ubuntu-ci", "user": "bob", "level": "use"})
    assert made.status_code == 201, made.content
    return made.json()


def test_a_source_shows_no_secret(admin: Api, image: dict[str, Any]) -> None:
    response = admin.get("sources/")
    assert response.json()["results"][0]["name"] == "Main"
    assert "hidden-secret" not in response.content.decode()
    assert admin.get(f"images/{image['id']}/").json() == image
    assert is_problem(admin.post("images/", {"source": "none"}), 400)


def test_images_are_tainted_and_revoked(admin: Api, developer: Api, image: dict[str, Any]) -> None:
    path = f"images/{image['id']}/"
    assert admin.post(f"{path}taint/", {"reason": "old"}).status_code == 202
    assert admin.get(path).json()["taint_reason"] == "old"
    assert admin.post(f"{path}untaint/").status_code == 202
    assert admin.get(path).json()["tainted_at"] is None
    assert admin.post(f"{path}revoke/", {"running_vms": "keep"}).json()["kind"] == "image.revoke"
    assert admin.get(path).json()["revoked_at"]
    assert is_problem(developer.post(f"{path}revoke/"), 404)


def test_templates_are_made_shown_and_changed(
    admin: Api, developer: Api, template: dict[str, Any], image: dict[str, Any]
) -> None:
    path = f"templates/{template['id']}/"
    assert template["images"] == [{k: image[k] for k in ("id", "name", "architecture")}]
    assert template["owner"]["name"] == "alice"
    assert admin.get("templates/?name=UBUNTU-CI").json()["results"] == [template]
    tag = admin.get(path)["ETag"]
    changed = admin.patch(path, {"cpus": 4}, If_Match=tag)
    assert changed.json()["cpus"] == 4
    assert is_problem(admin.patch(path, {"cpus": 8}, If_Match=tag), 412, "stale")
    assert is_problem(admin.patch(path, {"cpus": 0}), 400)
    assert is_problem(developer.get(path), 404)
    assert is_problem(developer.patch(path, {"cpus": 1}), 404)
    assert is_problem(developer.post("templates/", {"name": "x", **SIZE, "images": []}), 403)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"images": []}, "images"),
        ({"images": [MISSING]}, "images"),
        ({"cpus": 2**70}, "cpus"),
        ({"cpus": "2"}, "cpus"),
        ({"cpus": True}, "cpus"),
        ({"cpus": 2.5}, "cpus"),
        ({"memory_mib": -1}, "memory_mib"),
        ({"lease_end": "never"}, "lease_end"),
        ({"lease_end": {"a": 1}}, "lease_end"),
        ({"start": "yes"}, "start"),
        ({"host_tags": {"a": "b"}}, "host_tags"),
        ({"default_lease_seconds": 9000}, "default_lease_seconds"),
        ({"name": "UBUNTU-CI"}, None),
    ],
)
def test_a_bad_template_names_its_field(
    admin: Api,
    template: dict[str, Any],
    image: dict[str, Any],
    change: dict[str, Any],
    field: str | None,
) -> None:
    body = {"name": "other", "images": [image["id"]], **SIZE} | change
    response = admin.post("templates/", body)
    assert is_problem(response, 400)
    if field:
        assert field in response.json()["errors"]


def test_grants_are_found_by_template_and_subject(
    admin: Api, developer: Api, grant: dict[str, Any], template: dict[str, Any], bob: User
) -> None:
    for query in (
        "template=ubuntu-ci&subject=bob",
        f"template={template['id']}&subject={bob.pk}",
    ):
        assert admin.get(f"grants/?{query}").json()["results"] == [grant]
    assert admin.get("grants/?subject=Developer").json()["results"] == []
    assert admin.get("grants/?template=none").json()["results"] == []
    assert grant["user"] == {"id": str(bob.pk), "name": "bob"}
    assert grant["role"] is None
    assert developer.get("grants/").json()["results"] == [grant]
    by_role = admin.post("grants/", {"template": "ubuntu-ci", "role": "developer", "level": "use"})
    assert by_role.json()["role"]["name"] == "Developer"
    assert is_problem(developer.post("grants/", {"template": "ubuntu-ci", "user": "bob"}), 400)
    body = {"template": "ubuntu-ci", "user": "bob", "level": "manage"}
    assert is_problem(developer.post("grants/", body), 403, "level_too_low")
    assert is_problem(admin.post("grants/", body | {"template": "none"}), 404)
    assert is_problem(admin.post("grants/", body | {"user": "none"}), 400)
    assert is_problem(admin.post("grants/", body | {"role": "Developer"}), 400)


def test_a_vm_is_asked_for_and_waits_with_a_reason(
    developer: Api, grant: dict[str, Any], template: dict[str, Any], bob: User
) -> None:
    body = {"template": "ubuntu-ci", "name": "build-1", "tags": ["run-7"], "priority": 9}
    asked = developer.post("vms/", body)
    assert asked.status_code == 202, asked.content
    vm = asked.json()
    assert (vm["state"], vm["name"], vm["priority"]) == ("pending", "build-1", 9)
    assert vm["reason"]
    assert vm["template"] == {"id": template["id"], "name": "ubuntu-ci"}
    assert vm["requested_by"] == {"id": str(bob.pk), "name": "bob"}
    assert vm["token"]["name"] == "test"
    assert (vm["host"], vm["host_name"], vm["ip_address"]) == (None, None, None)
    assert vm["lease_ends_at"] is None
    assert asked["Location"].endswith(f"/api/v2/vms/{vm['id']}/")
    assert asked[HEADER] == f"job={vm['job']}; status=201; then=/api/v2/vms/{vm['id']}/"
    assert developer.get(asked["Location"]).json() == vm
    assert developer.get("vms/?state=pending&template=ubuntu-ci").json()["results"] == [vm]
    assert developer.get("vms/?open=false").json()["results"] == []
    job = developer.get(f"jobs/{vm['job']}/").json()
    assert (job["kind"], job["subject"]) == ("vm.create", f"vm:{vm['id']}")


def test_a_vm_is_asked_for_once_per_key(developer: Api, grant: dict[str, Any]) -> None:
    for replayed in (False, True):
        asked = developer.post("vms/", {"template": "ubuntu-ci"}, Idempotency_Key="run-1")
        assert asked.status_code == 202
        assert ("Idempotent-Replayed" in asked) == replayed
        assert HEADER in asked
    assert VirtualMachine.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid"),
        ({"template": "none"}, 404, "not_found"),
        ({"template": MISSING}, 404, "not_found"),
        ({"template": None}, 400, "invalid"),
        ({"template": ["ubuntu-ci"]}, 400, "invalid"),
        ({"template": "ubuntu-ci", "cpus": 10**30}, 400, "invalid"),
        ({"template": "ubuntu-ci", "cpus": 100_000}, 400, "invalid"),
        ({"template": "ubuntu-ci", "priority": 10}, 400, "invalid"),
        ({"template": "ubuntu-ci", "name": "-x"}, 400, "invalid"),
        ({"template": "ubuntu-ci", "lease_seconds": 7201}, 400, "invalid"),
        ({"template": "ubuntu-ci", "host": "mac-1"}, 404, "not_found"),
        ({"template": "ubuntu-ci", "tags": ["a\0b"]}, 400, "invalid"),
        ({"template": "ubuntu-ci", "memory": 4096}, 400, "invalid"),
    ],
)
def test_a_bad_request_for_a_vm_is_refused(
    developer: Api, grant: dict[str, Any], body: dict[str, Any], status: int, code: str
) -> None:
    assert is_problem(developer.post("vms/", body), status, code)
    assert not VirtualMachine.objects.exists()


def test_a_name_in_use_is_a_conflict(developer: Api, grant: dict[str, Any]) -> None:
    body = {"template": "ubuntu-ci", "name": "one"}
    assert developer.post("vms/", body).status_code == 202
    assert is_problem(developer.post("vms/", body), 409, "name_taken")


def test_rights_are_those_of_the_design(
    admin: Api,
    developer: Api,
    api_of: Callable[..., Api],
    grant: dict[str, Any],
    bob: User,
    charlie: User,
    audrey: User,
) -> None:
    body = {"template": "ubuntu-ci"}
    assert is_problem(api_of(charlie).post("vms/", body), 404)
    assert is_problem(api_of(audrey).post("vms/", body), 403, "forbidden")
    assert is_problem(api_of(bob, "read").post("vms/", body), 403, "token_scope")
    assert is_problem(api_of(bob, "templates").post("vms/", body), 403, "token_scope")
    vm = developer.post("vms/", body).json()
    assert is_problem(api_of(charlie).get(f"vms/{vm['id']}/"), 404)
    assert api_of(audrey).get(f"vms/{vm['id']}/").status_code == 200
    assert is_problem(api_of(audrey).delete(f"vms/{vm['id']}/"), 403)
    assert is_problem(api_of(bob, "read").delete(f"vms/{vm['id']}/"), 403, "token_scope")
    revoked = admin.post(f"grants/{grant['id']}/revoke/", {"running_vms": "delete"})
    assert revoked.status_code == 202
    assert is_problem(developer.post("vms/", body), 403, "grant_revoked")
    assert AuditEvent.objects.filter(outcome="refused", action="vms.create").count() == 4


def test_a_revocation_hits_exactly_what_its_impact_lists(
    admin: Api, developer: Api, grant: dict[str, Any]
) -> None:
    vm = developer.post("vms/", {"template": "ubuntu-ci"}).json()
    impact = admin.get(f"grants/{grant['id']}/impact/").json()
    assert [hit["id"] for hit in impact["hits"]] == [vm["id"]]
    assert impact["choices"] == ["keep", "stop", "delete"]
    assert isinstance(impact["tokens"], list)
    assert is_problem(developer.get(f"grants/{grant['id']}/impact/"), 403)
    assert is_problem(admin.post(f"grants/{grant['id']}/revoke/", {"running_vms": "burn"}), 400)
    job = admin.post(f"grants/{grant['id']}/revoke/", {"running_vms": "keep"}).json()
    assert (job["kind"], job["state"]) == ("grant.revoke", "done")
    assert admin.get(f"grants/{grant['id']}/").json()["revoked_at"]
    assert developer.get(f"vms/{vm['id']}/").json()["state"] != "pending"


def test_a_template_is_revoked(admin: Api, developer: Api, grant: dict[str, Any]) -> None:
    path = f"templates/{grant['template']['id']}/revoke/"
    assert is_problem(developer.post(path), 403)
    assert admin.post(path).json()["kind"] == "template.revoke"
    refused = developer.post("vms/", {"template": "ubuntu-ci"})
    assert is_problem(refused, 403, "template_revoked")


@pytest.mark.parametrize("verb", ["start", "stop", "suspend", "extend", "execute"])
def test_verbs_that_a_pending_vm_does_not_allow(
    developer: Api, grant: dict[str, Any], verb: str
) -> None:
    vm = developer.post("vms/", {"template": "ubuntu-ci"}).json()
    body = {"command": "echo"} if verb == "execute" else {}
    assert is_problem(developer.post(f"vms/{vm['id']}/{verb}/", body), 409, "conflict")
    assert is_problem(developer.post(f"vms/{MISSING}/{verb}/", body), 404)


def test_a_running_vm_is_used(admin: Api, developer: Api, grant: dict[str, Any]) -> None:
    vm = developer.post("vms/", {"template": "ubuntu-ci"}).json()
    host = make_host()
    VirtualMachine.objects.update(state="running", host=host)
    path = f"vms/{vm['id']}/"
    body = {"command": "echo hi", "environment": {"A": "1"}, "timeout_seconds": 5}
    job = developer.post(f"{path}execute/", body)
    assert job.status_code == 202
    assert job.json()["kind"] == "vm.execute"
    assert job[HEADER].endswith(f"status=200; then=/api/v2/jobs/{job.json()['id']}/")
    bad = developer.post(f"{path}execute/", {"command": "x", "environment": {"\ud800": "1"}})
    assert is_problem(bad, 400)
    assert is_problem(developer.post(f"{path}execute/", {"command": "x", "environment": []}), 400)
    stopped = developer.post(f"{path}stop/", {"force": True})
    assert stopped.json()["kind"] == "vm.stop"
    assert developer.get(path).json()["state"] == "stopping"
    deleted = developer.delete(path)
    assert deleted.status_code == 202
    assert deleted.json()["kind"] == "vm.delete"
    assert admin.get(f"vms/?host={host.name}").json()["results"][0]["id"] == vm["id"]


def test_a_placement_explains(admin: Api, developer: Api, grant: dict[str, Any]) -> None:
    vm = developer.post("vms/", {"template": "ubuntu-ci"}).json()
    make_host()
    shown = developer.get(f"vms/{vm['id']}/placement/").json()
    assert shown["attempts"] == []
    assert shown["reason"] == vm["reason"]
    why = admin.get(f"vms/{vm['id']}/placement/?why_not=mac-1").json()["why_not"]
    assert why["host"] == "mac-1"
    assert why["detail"]
    assert is_problem(admin.get(f"vms/{vm['id']}/placement/?why_not=none"), 400)
    assert is_problem(developer.get(f"vms/{MISSING}/placement/"), 404)


def test_a_token_is_narrowed_to_templates_by_name(
    admin: Api, grant: dict[str, Any], template: dict[str, Any], image: dict[str, Any]
) -> None:
    admin.post("templates/", {"name": "other", "images": [image["id"]], **SIZE})
    admin.post("grants/", {"template": "other", "user": "bob", "level": "use"})
    body = {"name": "ci", "scopes": ["vms"], "user": "bob", "templates": ["ubuntu-ci"]}
    made = admin.post("tokens/", body).json()
    assert made["templates"] == [template["id"]]
    api = Api(made["token"])
    assert api.post("vms/", {"template": "ubuntu-ci"}).status_code == 202
    assert is_problem(api.post("vms/", {"template": "other"}), 403, "token_scope")
    assert is_problem(admin.post("tokens/", body | {"templates": ["none"]}), 400)


@pytest.mark.parametrize(
    ("path", "queries"),
    [("vms/", 6), ("templates/", 4), ("grants/", 3), ("images/", 4), ("sources/", 3)],
)
def test_lists_cost_the_same_for_many_rows(
    admin: Api,
    developer: Api,
    grant: dict[str, Any],
    image: dict[str, Any],
    path: str,
    queries: int,
    django_assert_num_queries: Callable[..., Any],
) -> None:
    for number in range(2):
        developer.post("vms/", {"template": "ubuntu-ci"})
        admin.post("grants/", {"template": "ubuntu-ci", "role": "Developer", "level": "use"})
        body = {"name": f"t{number}", "images": [image["id"]], **SIZE}
        admin.post("templates/", body)
        with django_assert_num_queries(queries):
            assert admin.get(path).json()["results"]


def test_a_create_takes_few_queries(
    developer: Api, grant: dict[str, Any], django_assert_num_queries: Callable[..., Any]
) -> None:
    developer.get("me/")  # a token's first use is noted
    with django_assert_num_queries(20):  # those of the transaction that takes the rights included
        made = developer.post("vms/", {"template": "ubuntu-ci"}).json()
    shown = developer.get(f"vms/{made['id']}/").json()
    assert shown == made, "what is answered is what is stored"


def test_one_vm_for_two_requests_at_once(file_database: None) -> None:
    from tests.conftest import _account

    admin = Api(make_token(_account("alice", "Administrator")))
    admin.post("templates/", {"name": "clones", "clone_of": "golden", **SIZE})
    token = admin.headers["Authorization"].removeprefix("Bearer ")
    together = threading.Barrier(3)
    answers: list[Any] = []

    def ask() -> None:
        api = Api(token, Client())
        together.wait()
        try:
            answers.append(api.post("vms/", {"template": "clones"}, Idempotency_Key="k"))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert VirtualMachine.objects.count() == 1
