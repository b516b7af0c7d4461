"""The pages of packages, environments and dictionaries, and the wizard."""

from __future__ import annotations

import io
import re
import zipfile

import pytest
from django.test import Client
from django.urls import reverse

from deployments import dictionaries, environments
from deployments.models import Dictionary, Environment, Package, Task
from tests.deployments.conftest import script


@pytest.fixture
def client(fleet, alice):
    signed_in = Client()
    signed_in.force_login(alice)
    return signed_in


def text_of(response, status=200):
    assert response.status_code == status, response.content.decode()[:3000]
    return re.sub(r"\s+", " ", response.content.decode())


def found(pattern, page):
    match = re.search(pattern, page)
    assert match, pattern
    return match[1]


YAML = b"""application: Shop
version: "1.0"
deployables:
  - name: greet
    type: script
    tags: ["*"]
    properties:
      script: echo {{greeting}} {{word}}
"""


def test_a_package_is_imported_shown_exported_and_deleted(client, fleet):
    assert "There is no package yet" in text_of(client.get("/packages/"))
    bad = YAML.replace(b"type: script", b"type: scripd")
    answer = client.post("/packages/import/", {"file": io.BytesIO(bad), "yaml": ""})
    assert "Line 5: Give one of" in text_of(answer, 400)
    assert "either a file or YAML" in text_of(client.post("/packages/import/", {}), 422)
    client.post("/packages/import/", {"yaml": YAML.decode()})
    package = Package.objects.get()
    page = text_of(client.get(f"/packages/{package.pk}/"))
    assert "echo {{greeting}}" in page
    assert "Shop 1.0" in text_of(client.get("/packages/?q=sho"))
    zipped = b"".join(client.get(f"/packages/{package.pk}/export/").streaming_content)
    assert zipfile.ZipFile(io.BytesIO(zipped)).namelist() == ["package.yml"]
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as archive:
        archive.writestr("package.yml", YAML.replace(b'"1.0"', b'"2.0"'))
    copy.seek(0)
    client.post("/packages/import/", {"file": copy})
    assert Package.objects.filter(version="2.0").exists()
    client.post(f"/packages/{package.pk}/delete/")
    assert [one.version for one in Package.objects.all()] == ["2.0"]


def test_environments_and_dictionaries_are_kept_by_forms(client, fleet):
    client.post(
        "/dictionaries/new/", {"name": "Common", "containers": "web-1, mac-1", "description": ""}
    )
    common = Dictionary.objects.get()
    assert common.containers == [fleet.path("web-1"), f"host:{fleet.hosts[0].pk}"]
    page = f"/dictionaries/{common.pk}/"
    client.post(f"{page}set/", {"key": "port", "value": "80"})
    client.post(f"{page}set/", {"key": "password", "value": "hush-hush", "secret": "on"})
    shown = text_of(client.get(page))
    assert "80" in shown
    assert "hush" not in shown + text_of(client.get(f"{page}set/?key=password"))
    client.post(f"{page}remove/", {"key": "port"})
    assert [one.key for one in common.entries.all()] == ["password"]
    answer = client.post(f"{page}set/", {"key": "not a key", "value": "x"})
    assert "is no key" in text_of(answer, 400)

    values = {"name": "Live", "dictionaries": "common"}
    client.post("/environments/new/", values)
    live = Environment.objects.get(name="Live")
    assert [one.name for one in live.dictionaries.all()] == ["Common"]
    assert "no dictionary nothing" in text_of(
        client.post("/environments/new/", {"name": "X", "dictionaries": "nothing"}), 422
    )
    page = f"/environments/{live.pk}/"
    member = {"vm": str(fleet.vms["web-1"].pk), "group": "3", "labels": "site=a", "noun": "vm"}
    client.post(f"{page}members/new/", member)
    client.post(f"{page}members/new/", {"tag": "web", "noun": "vm"})
    shown = text_of(client.get(page))
    assert "site=a" in shown
    assert "VMs tagged web" in shown
    assert "2 VMs and hosts now" in shown
    again = client.post(f"{page}members/new/", member)
    assert "is in Live already" in text_of(again, 409)
    first = live.members.first()
    client.post(f"{page}members/{first.pk}/remove/")
    assert live.members.count() == 1
    client.post(f"{page}edit/", {**values, "dictionaries": ""})
    assert not live.dictionaries.exists()
    client.post(f"{page}delete/")
    assert [one.name for one in Environment.objects.all()] == ["Staging"]
    for path in ("/environments/", "/dictionaries/"):
        text_of(client.get(path))
    client.post(f"/dictionaries/{common.pk}/delete/")
    assert not Dictionary.objects.exists()


def test_the_policy_of_an_environment_is_kept_by_a_form(client, fleet):
    live = fleet.environment
    page = f"/environments/{live.pk}/"
    values = {
        "max_unavailable": "25%",
        "exclusive": "on",
        "on_failure_tolerated": "2",
        "on_failure_siblings": "stop",
        "on_failure_then": "rollback",
        "gate_probe": "http",
        "gate_port": "8080",
        "gate_path": "/health",
        "gate_minimum_healthy_seconds": "30s",
        "gate_deadline_seconds": "5m",
        # The first row is left empty.
        "approvals_1_name": "Go live",
        "approvals_1_at": "start",
        "approvals_1_role": "Operator",
        "approvals_1_timeout_seconds": "1h",
    }
    assert client.post(f"{page}policy/", values).status_code == 303
    live.refresh_from_db()
    assert live.policy == {
        "max_unavailable": "25%",
        "exclusive": True,
        "on_failure": {"tolerated": 2, "siblings": "stop", "then": "rollback"},
        "gate": {
            "probe": "http",
            "port": 8080,
            "path": "/health",
            "minimum_healthy_seconds": 30,
            "deadline_seconds": 300,
        },
        "approvals": [
            {"name": "Go live", "at": "start", "role": "Operator", "timeout_seconds": 3600}
        ],
    }
    shown = text_of(client.get(page))
    for words in (
        "at most 25% of the members change",
        "one at a time",
        "Go live",
        "healthy for 30 s",
    ):
        assert words in shown
    form = client.get(f"{page}policy/")
    assert form.context["form"]["approvals_0_timeout_seconds"].value() == "1 h"
    assert 'value="1 h"' in form.content.decode()
    # What is wrong is told at its field, rows that are empty not counted.
    wrong = {
        "max_unavailable": "0",
        "on_failure_tolerated": "many",
        "gate_port": "99999",
        "approvals_2_name": "Release",
    }
    answer = client.post(f"{page}policy/", wrong)
    errors = answer.context["form"].errors
    assert answer.status_code == 422
    assert errors == {
        "max_unavailable": ["Give a number from 1 to 2147483647."],
        "on_failure_tolerated": ["Give a count, or a share such as 25%."],
        "gate_probe": ["Give “probe”: one of port, http, script, agent."],
        "gate_port": ["Give a number from 1 to 65535."],
        "approvals_2_at": ["Give “at”: one of start, batch, end."],
    }
    needs = client.post(f"{page}policy/", {"gate_probe": "script"})
    assert needs.context["form"].errors == {"gate_script": ["The probe script needs “script”."]}
    client.post(f"{page}policy/", {})
    live.refresh_from_db()
    assert live.policy == {}


def test_load_balancers_are_kept_by_forms_and_members_follow_a_new_name(client, fleet):
    live = fleet.environment
    live.members.filter(vm=fleet.vms["web-1"]).update(balancer="edge")
    page = f"/environments/{live.pk}/"
    assert "a person, who is asked" in text_of(client.get(page))
    values = {
        "name": "edge",
        "vm": fleet.vms["db-1"].pk,
        "disable": "pool out {{member}}",
        "enable": "pool in {{member}}",
        "timeout_seconds": "2m",
    }
    assert client.post(f"{page}balancers/set/?name=edge", values).status_code == 303
    live.refresh_from_db()
    assert live.balancers["edge"] == {
        "vm": str(fleet.vms["db-1"].pk),
        "disable": "pool out {{member}}",
        "enable": "pool in {{member}}",
        "timeout_seconds": 120,
    }
    assert "scripts on db-1" in text_of(client.get(page))
    again = client.post(f"{page}balancers/set/", values)
    assert "There is a balancer edge here already" in text_of(again, 409)
    assert "pool out" in text_of(client.get(f"{page}balancers/set/?name=edge"))
    client.post(f"{page}balancers/set/?name=edge", {**values, "name": "front"})
    live.refresh_from_db()
    assert list(live.balancers) == ["front"]
    assert live.members.get(vm=fleet.vms["web-1"]).balancer == "front"
    package = fleet.package(deployables=[script(tags=["web"])])
    plan = fleet.prepare(package, orchestrators=["sequential-by-loadbalancer-group"])
    acts = [step.action.get("script") for leaf in plan.plan.leaves() for step in leaf.steps]
    assert "pool out web-1" in acts
    gone = client.post(f"{page}balancers/set/?name=front", {**values, "disable": ""})
    assert gone.context["form"].errors == {"disable": ["This field is required."]}
    client.post(f"{page}balancers/remove/", {"name": "front"})
    live.refresh_from_db()
    assert live.balancers == {}
    assert client.post(f"{page}balancers/remove/", {"name": "front"}).status_code == 404


def test_another_version_is_made_with_another_policy(client, fleet):
    first = fleet.package(
        deployables=[script(tags=["web"])],
        policy={"on_failure": {"tolerated": "10%"}, "approvals": [{"name": "Go", "at": "start"}]},
    )
    page = f"/packages/{first.pk}/"
    form = client.get(f"{page}new-version/").context["form"]
    assert form["on_failure_tolerated"].value() == "10%"
    assert form["approvals_0_name"].value() == "Go"
    values = {"version": "1.0", "gate_probe": "agent"}
    refused = client.post(f"{page}new-version/", values)
    assert refused.context["form"].errors == {"version": ["This version exists."]}
    assert client.post(f"{page}new-version/", {**values, "version": "1.1"}).status_code == 303
    second = first.application.packages.get(version="1.1")
    assert second.policy == {"gate": {"probe": "agent"}}
    assert [one.name for one in second.deployables.all()] == ["setup"]
    first.refresh_from_db()
    assert first.policy["approvals"] == [{"name": "Go", "at": "start"}]
    assert "agent after each batch" in text_of(client.get(f"/packages/{second.pk}/"))


def test_the_wizard_previews_and_makes_the_task(client, fleet):
    package = fleet.package(
        deployables=[
            script("setup", tags=["web"], undo="undo {{word}}"),
            script("seed", tags=["db"], script="seed {{word}}"),
        ]
    )
    url = reverse("deployments:new")
    assert "Choose a package and an environment" in text_of(client.get(url))
    chosen = {"package": str(package.pk), "environment": str(fleet.environment.pk)}
    # A refusal is told where the preview would be.
    assert "These placeholders have no value" in text_of(client.get(url, chosen))
    secrets = dictionaries.create_dictionary(fleet.alice, name="S", secrets={"word": "hush-hush"})
    environments.update_environment(fleet.alice, fleet.environment, dictionaries=[secrets])
    page = text_of(client.get(url, chosen))
    assert "Deploy Shop 1.0 on Staging" in page
    assert "3 CREATE" in page
    assert "••••••" in page
    assert "hush-hush" not in page
    assert "{{secret" not in page
    # What belongs together has the same key.
    (key,) = re.findall(r'data-key="(d\d)" tabindex="0"> <td>seed', page)
    assert re.search(rf'data-for="{key}"[^>]*>.{{0,200}}Execute seed on db-1', page)

    selection = found(r'name="for" value="([^"]+)"', page)
    answers = {
        **chosen,
        "operation": "deploy",
        "for": selection,
        "offered": "[]",
        "o": ["parallel-by-container", "", "", ""],
        "mapped": "1",
        "map-setup": ["", fleet.path("web-2")],
        "map-seed": ["", fleet.path("db-1")],
    }
    page = text_of(client.get(url, answers, headers={"HX-Request": "true"}))
    assert "<html" not in page
    assert "2 CREATE" in page
    assert "by parallel-by-container: db-1" in page
    assert "Execute setup on web-1" not in page
    form = {
        name: found(rf'name="{name}" value="([^"]*)"', page).replace("&amp;", "&")
        for name in ("query", "fingerprint")
    }
    # Something changed since: refused, and nothing is made.
    dictionaries.update_dictionary(fleet.alice, secrets, secrets={"word": "other"})
    assert "Something has changed" in text_of(client.post(url, {**form, "then": "keep"}), 409)
    assert not Task.objects.exists()
    page = text_of(client.get(url, answers))
    form["fingerprint"] = found(r'name="fingerprint" value="([^"]*)"', page)
    answer = client.post(url, {**form, "then": "keep"})
    task = Task.objects.get()
    assert answer.status_code == 303
    assert answer["Location"] == f"/tasks/{task.pk}/"
    assert (task.title, task.state) == ("Deploy Shop 1.0 on Staging", "pending")
    assert task.asked["mapping"] == {
        "setup": [fleet.path("web-2")],
        "seed": [fleet.path("db-1")],
    }

    fleet.deploy(package)
    page = text_of(client.get(url, {**chosen, "operation": "undeploy"}))
    assert "3 DESTROY" in page
    assert "Without an undo script" in page


def test_who_may_not_sees_nothing_and_changes_nothing(fleet, charlie, audrey):
    package = fleet.package(deployables=[script("setup", tags=["web"])])
    nobody, auditor = Client(), Client()
    nobody.force_login(charlie)
    auditor.force_login(audrey)
    assert nobody.get("/deployments/new/").status_code == 403
    assert nobody.get(f"/packages/{package.pk}/").status_code == 404
    assert "Shop" not in text_of(nobody.get("/packages/"))
    assert "Shop 1.0" in text_of(auditor.get("/packages/"))
    for path in ("/packages/import/", "/environments/new/", "/dictionaries/new/"):
        assert auditor.get(path).status_code == 403
    assert auditor.post(f"/packages/{package.pk}/delete/").status_code == 403
    query = f"package={package.pk}&environment={fleet.environment.pk}"
    page = text_of(auditor.get(f"/deployments/new/?{query}"))
    assert "Start</button>" not in page
    fingerprint = fleet.prepare(package).fingerprint
    form = {"query": query, "fingerprint": fingerprint, "then": "keep"}
    assert auditor.post("/deployments/new/", form).status_code == 403
    assert not Task.objects.exists()
