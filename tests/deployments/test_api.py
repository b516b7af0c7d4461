"""Packages, environments, dictionaries and previews over `/api/v2/`."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from django.test import Client

from deployments.models import Artifact, Environment, Package
from tests.deployments.conftest import script

pytestmark = pytest.mark.stores


class Api:
    """A client of the API as somebody who is signed in."""

    def __init__(self, user):
        self.client = Client()
        self.client.force_login(user)

    def __call__(self, method, path, body=None, status=None, **headers):
        found = self.client.generic(
            method,
            f"/api/v2/{path}",
            body if isinstance(body, bytes) else json.dumps(body or {}),
            "application/octet-stream" if isinstance(body, bytes) else "application/json",
            headers=headers,
        )
        answer = found.json() if "json" in found.get("Content-Type", "") else found
        assert status in (None, found.status_code), (found.status_code, answer)
        return answer


@pytest.fixture
def api(fleet, alice):
    return Api(alice)


DOCUMENT = {
    "application": "Shop",
    "version": "1.0",
    "description": "Sells.",
    "orchestrators": ["parallel-by-container"],
    "policy": {"gate": {"probe": "agent"}, "on_failure": {"tolerated": "25%"}},
    "deployables": [
        {"name": "app", "type": "file", "tags": ["web"], "properties": {"path": "/opt/app"}},
        script("setup", tags=["web"], undo="undo"),
    ],
}


def test_a_package_goes_in_and_comes_out_and_is_planned(api, fleet, audrey, charlie):
    file = b"\x00binary" * 1000
    artifact = api("POST", "artifacts/", file, 201)
    assert api("POST", "artifacts/", file, 201)["id"] == artifact["id"]  # kept once
    document = json.loads(json.dumps(DOCUMENT))
    refused = api("POST", "packages/", document, 400)
    assert "deployables.0" in refused["errors"]
    document["deployables"][0]["sha256"] = artifact["sha256"]
    made = api("POST", "packages/", document, 201, **{"Idempotency-Key": "one"})
    again = api("POST", "packages/", document, 201, **{"Idempotency-Key": "one"})
    assert again["id"] == made["id"]
    assert api("POST", "packages/", document, 409)["code"] == "version_exists"
    assert made["deployables"][0]["sha256"] == artifact["sha256"]
    assert made["deployables"][1]["properties"]["interpreter"] == "/bin/sh"  # defaults are filled
    assert [one["version"] for one in api("GET", "packages/?application=shop")["results"]] == [
        "1.0"
    ]

    # Out as YAML and as a zip, and in again as another version.
    text = api("GET", f"packages/{made['id']}/export/")["yaml"]
    assert "tolerated: 25%" in text
    copied = api("POST", "packages/import/", {"yaml": text.replace("1.0", "1.1")}, 201)
    assert copied["policy"] == made["policy"]
    zipped = b"".join(api("GET", f"packages/{made['id']}/export/?as=zip").streaming_content)
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        assert archive.read("files/0/app") == file
        entries = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content.replace(b"'1.0'", b"'1.2'"))
    upload = api("POST", "artifacts/", buffer.getvalue(), 201)
    third = api("POST", "packages/import/", {"artifact": upload["sha256"]}, 201)
    assert (third["version"], third["deployables"]) == ("1.2", made["deployables"])

    asked = {"environment": "staging", "package": "Shop 1.0"}
    preview = api("POST", "deployments/preview/", asked, 200)
    # As a task of it runs: with the gates of its policy.
    assert (preview["kind"], preview["plan"]["kind"]) == ("initial", "serial")
    made_by = [child["made_by"] for child in preview["plan"]["children"]]
    assert made_by == ["parallel-by-container", "health gate"]
    rollout = preview["plan"]["children"][0]
    assert [child["made_by"] for child in rollout["children"]] == [
        *("parallel-by-container", "parallel-by-container"),
    ]
    assert rollout["children"][0]["steps"][0]["deployeds"] == [["app", fleet.path("web-1")]]
    assert preview["policy"]["on_failure"]["tolerated"] == "25%"
    undeploy = {**asked, "operation": "undeploy"}
    assert api("POST", "deployments/preview/", undeploy, 404)["code"] == "not_found"
    wrong = {**asked, "orchestrators": ["parallel-by-hosts"]}
    assert "did you mean" in api("POST", "deployments/preview/", wrong, 400)["detail"]

    fleet.deploy(Package.objects.get(version="1.0"))
    (row,) = api("GET", f"environments/{fleet.environment.pk}/deployed/")["results"]
    assert (row["version"], len(row["deployeds"])) == ("1.0", 4)
    assert "undeploy it first" in api("DELETE", f"packages/{made['id']}/", status=409)["detail"]
    api("DELETE", f"packages/{copied['id']}/", status=204)
    application = made["application"]["id"]
    api("PATCH", f"applications/{application}/", {"description": "All of it."}, 200)
    api("DELETE", f"applications/{application}/", status=409)

    # An auditor sees and changes nothing; somebody without a role sees nothing.
    auditor, nobody = Api(audrey), Api(charlie)
    assert len(auditor("GET", "packages/", status=200)["results"]) == 2
    auditor("POST", "deployments/preview/", asked, 200)
    auditor("POST", "packages/", document, 403)
    auditor("POST", "artifacts/", file, 403)
    auditor("PATCH", f"environments/{fleet.environment.pk}/", {"name": "x"}, 403)
    assert nobody("GET", "packages/", status=200)["results"] == []
    nobody("GET", f"packages/{made['id']}/", status=404)
    nobody("POST", "deployments/preview/", asked, 403)
    assert Artifact.objects.count() == 2


def test_environments_and_dictionaries(api, fleet):
    secret = {"name": "Common", "entries": {"port": "80"}, "secrets": {"password": "hush"}}
    common = api("POST", "dictionaries/", secret, 201)
    assert common["entries"] == [
        {"key": "password", "value": "", "secret": True, "revision": 1},
        {"key": "port", "value": "80", "secret": False, "revision": 1},
    ]
    body = {
        "name": "Production",
        "dictionaries": ["Common"],
        "policy": {"max_unavailable": "50%"},
        "members": [
            {"vm": "web-1", "group": 1, "labels": {"site": "a"}, "tags": ["front"]},
            {"host": "mac-1"},
            {"tag": "db"},
        ],
    }
    made = api("POST", "environments/", body, 201)
    assert [one["vm"] and one["vm"]["name"] for one in made["members"]] == ["web-1", None, None]
    assert made["members"][2]["noun"] == "vm"
    assert made["dictionaries"] == [{"id": common["id"], "name": "Common"}]
    path = f"environments/{made['id']}/"
    wrong = api("PATCH", path, {"members": [{"vm": "web-1"}, {"vm": "web-1"}]}, 409)
    assert wrong["code"] == "member_exists"
    api("PATCH", path, {"members": [{"vm": "nothing"}]}, 400)
    api("PATCH", path, {"members": [{"vm": "web-1", "tag": "x"}]}, 400)
    wrong = api("PATCH", path, {"policy": {"max_unavailable": "much"}}, 400)
    assert "policy.max_unavailable" in wrong["errors"]
    assert "exists" in api("POST", "environments/", {"name": "production"}, 400)["detail"]
    renamed = api("PATCH", path, {"name": "Live", "members": []}, 200)
    assert (renamed["name"], renamed["members"]) == ("Live", [])
    changed = api(
        "PATCH",
        f"dictionaries/{common['id']}/",
        {"entries": {"port": None, "new": "{{port}}"}, "secrets": {"password": "louder"}},
        200,
    )
    assert [(one["key"], one["revision"]) for one in changed["entries"]] == [
        *(("new", 1), ("password", 2)),
    ]
    assert "louder" not in json.dumps(changed)
    forged = {"entries": {"x": f"{{{{secret:{common['id']}/password}}}}"}}
    assert api("PATCH", f"dictionaries/{common['id']}/", forged, 400)
    api("DELETE", f"dictionaries/{common['id']}/", status=409)
    api("DELETE", path, status=204)
    api("DELETE", f"dictionaries/{common['id']}/", status=204)
    assert Environment.objects.count() == 1
