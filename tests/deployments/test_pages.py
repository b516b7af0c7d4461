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

    values = {"name": "Live", "dictionaries": "common", "max_unavailable": "25%", "then": "hold"}
    client.post("/environments/new/", values)
    live = Environment.objects.get(name="Live")
    assert live.policy == {"max_unavailable": "25%", "on_failure": {"then": "hold"}}
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
    client.post(f"{page}edit/", {**values, "max_unavailable": "", "dictionaries": ""})
    live.refresh_from_db()
    assert live.policy == {"on_failure": {"then": "hold"}}
    client.post(f"{page}delete/")
    assert [one.name for one in Environment.objects.all()] == ["Staging"]
    for path in ("/environments/", "/dictionaries/"):
        text_of(client.get(path))
    client.post(f"/dictionaries/{common.pk}/delete/")
    assert not Dictionary.objects.exists()


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
