"""What a host answers, against the text of the contract."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

KEY = {"X-Api-Key": base64.b64encode(b"sim:sim").decode()}


def test_probe_in_both_prefixes_without_login(sim: Any) -> None:
    for prefix in ("/api", "/api/v1"):
        answer = sim.http.get(f"{sim.url}/h/1{prefix}/health/probe")
        assert (answer.status_code, answer.json()) == (200, {"status": "OK"})
        assert answer.headers["content-type"] == "application/json"


def test_root_and_system_health(sim: Any) -> None:
    assert set(sim.http.get(f"{sim.url}/h/1/api/").json()) == {"id", "timestamp", "message"}
    health = sim.call("GET", "/health/system?full=true", headers={}).json()
    assert health["healthy"] and health["services"][0]["name"]


@pytest.mark.parametrize(
    "path", ["/api/v1/nope", "/api/machines/x/y/z", "/other", "/api/v1", "/x/"]
)
def test_unknown_path(sim: Any, path: str) -> None:
    answer = sim.http.get(f"{sim.url}/h/1{path}", headers=KEY)
    assert answer.status_code == 404
    assert answer.json() == {"message": f"resource {path} not found", "code": 404}


def test_unknown_host(sim: Any) -> None:
    assert sim.http.get(f"{sim.url}/h/4/api/health/probe").status_code == 404
    assert sim.http.get(f"{sim.url}/h/0/api/health/probe").status_code == 404
    assert sim.http.get(f"{sim.url}/elsewhere").status_code == 404


@pytest.mark.parametrize(
    ("path", "clean"),
    [("/api/v1/machines/", "/api/v1/machines"), ("/api/v1//machines?a=b", "/api/v1/machines?a=b")],
)
def test_slashes_are_redirected(sim: Any, path: str, clean: str) -> None:
    answer = sim.http.get(f"{sim.url}/h/1{path}", headers=KEY)
    assert answer.status_code == 301
    assert answer.headers["location"] == f"/h/1{clean}"


def test_wrong_method_has_no_body(sim: Any) -> None:
    answer = sim.call("GET", "/machines/golden-1/start")
    assert (answer.status_code, answer.content) == (405, b"")


# -- login -----------------------------------------------------------------------------------


def test_login_and_validate(sim: Any) -> None:
    login = {"username": "root", "password": "simulated"}
    answer = sim.call("POST", "/auth/token", headers={}, json=login)
    record = answer.json()
    assert answer.status_code == 200 and record["email"] == "root@localhost"
    assert 890 <= record["expires_at"] - time.time() <= 901
    payload = record["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims["exp"] == record["expires_at"] and claims["uid"]
    token = {"token": record["token"]}
    assert sim.call("POST", "/auth/token/validate", headers={}, json=token).json() == {
        "valid": True
    }
    assert sim.call("POST", "/auth/token/validate", 2, headers={}, json=token).status_code == 401


def test_wrong_password_is_404_with_diagnostics(sim: Any) -> None:
    login = {"email": "root@localhost", "password": "wrong"}
    answer = sim.call("POST", "/auth/token", headers={}, json=login)
    record = answer.json()
    assert answer.status_code == record["code"] == 404
    assert record["message"] == "Invalid user or Password"
    assert record["diagnostics"]["errors"][0]["code"] == "404"
    assert sim.call("POST", "/auth/token", headers={}, json={"email": "x"}).status_code == 400
    assert sim.call("POST", "/auth/token", headers={}).status_code == 400


def test_api_key_can_be_exchanged(sim: Any) -> None:
    answer = sim.call("POST", "/auth/token", headers={}, json={"api_key": KEY["X-Api-Key"]})
    bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert sim.call("GET", "/jobs", headers=bearer).json() == []


@pytest.mark.parametrize("key", ["sim:sim", "SIM:sim", "Sim:sim"])
def test_api_key_ignores_case_of_its_name(sim: Any, key: str) -> None:
    headers = {"X-Api-Key": base64.b64encode(key.encode()).decode()}
    assert sim.call("GET", "/machines", headers=headers).status_code == 200


def test_refused_credentials(sim: Any) -> None:
    bearer = sim.login()
    wrong = {"X-Api-Key": base64.b64encode(b"sim:SIM").decode()}
    for headers in ({}, {"X-Api-Key": "no"}, wrong, {"Authorization": "Bearer x.y.z"}):
        answer = sim.call("GET", "/machines", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"] == "unauthorized_client"
    for headers in (bearer | KEY, {"Authorization": "Basic eA=="}):
        answer = sim.call("GET", "/machines", headers=headers)
        assert (answer.status_code, answer.text) == (401, "null")
    token = bearer["Authorization"].removeprefix("Bearer ")
    assert sim.call("GET", f"/machines?access_token={token}", headers={}).status_code == 200


def test_jobs_refuse_api_keys(sim: Any) -> None:
    answer = sim.call("GET", "/jobs")
    assert answer.status_code == 401
    assert answer.json()["error_description"] == "User not found"


# -- hardware and cache ----------------------------------------------------------------------


def test_hardware_adds_up(sim: Any) -> None:
    record = sim.call("GET", "/config/hardware").json()
    assert (record["cpu_type"], record["devops_version"]) == ("arm64", "1.0.5")
    total, free = record["total"], record["total_available"]
    reserved, in_use = record["system_reserved"], record["total_in_use"]
    assert in_use["logical_cpu_count"] == record["total_reserved"]["logical_cpu_count"] == 1
    for name in ("logical_cpu_count", "memory_size"):
        assert free[name] == total[name] - reserved[name] - in_use[name]
    assert free["prl_home_total_size"] == 1000 * 1024 == free["disk_count"] + total["disk_count"]
    assert free["prl_home_free_size"] == free["disk_count"]


def test_every_host_is_another_machine(sim: Any) -> None:
    licences = [
        sim.call("GET", "/config/parallels-desktop/license", k, headers={}).json()
        for k in (1, 2, 3)
    ]
    assert len({record["uuid"] for record in licences}) == 3
    assert len({record["serial"] for record in licences}) == 3
    addresses = {
        sim.call("GET", "/config/hardware", k).json()["external_ip_address"] for k in (1, 2, 3)
    }
    assert len(addresses) == 3


def test_cache_fills_and_empties(sim: Any) -> None:
    assert sim.call("GET", "/cache").json()["manifests"] == []
    sim.make("a-1")
    sim.make("b-1")
    record = sim.call("GET", "/cache").json()
    (manifest,) = record["manifests"]
    assert (manifest["catalog_id"], manifest["version"]) == ("UBUNTU-2404", "1.0")
    assert (manifest["cache_used_count"], record["total_size"]) == (2, manifest["cache_size"])
    assert sim.call("DELETE", "/cache/ubuntu-2404/2.0").status_code == 404
    assert sim.call("DELETE", "/cache/ubuntu-2404/1.0").status_code == 202
    assert sim.call("GET", "/catalog/cache").json()["manifests"] == []
    assert sim.call("DELETE", "/cache").status_code == 202


def test_diskspace(sim: Any) -> None:
    def sizes(path: str) -> tuple[int, int | None]:
        body = {"folder_path": path}
        record = sim.call("POST", "/config/diskspace", headers={}, json=body).json()
        return record["parallels_home_size"], record.get("given_path_size")

    one = 10 * 1024 // 4
    assert sizes("/x") == (2 * one, None)
    home = next(vm["home"] for vm in sim.look()["vms"])
    assert sizes(home) == sizes(f"{home}/") == (2 * one, one)


# -- reading VMs -----------------------------------------------------------------------------


def test_vm_record(sim: Any) -> None:
    vm = sim.make("build-1")
    record = sim.call("GET", f"/machines/{vm['id']}").json()
    assert record["ID"].startswith("{") and record["ID"].endswith("}")
    assert (record["Name"], record["State"], record["Type"]) == ("build-1", "running", "VM")
    assert record["Hardware"]["cpu"]["cpus"] == 3
    assert record["Hardware"]["memory"]["size"] == "4096Mb"
    assert record["Hardware"]["hdd0"]["size"] == "65536Mb"
    assert record["Network"]["ipAddresses"][0]["ip"] == record["internal_ip_address"]
    status = sim.call("GET", "/machines/build-1/status").json()
    ip = record["internal_ip_address"]
    assert status == {"id": vm["id"], "status": "running", "ip_configured": ip}
    assert sim.call("GET", f"/machines/{vm['id'].strip('{}')}").json()["Name"] == "build-1"


def test_stopped_vm_has_no_address(sim: Any) -> None:
    assert sim.call("GET", "/machines/golden-1/status").json()["ip_configured"] == "-"
    assert "internal_ip_address" not in sim.call("GET", "/machines/golden-1").json()


@pytest.mark.parametrize("path", ["", "/status", "/snapshots"])
def test_unknown_vm(sim: Any, path: str) -> None:
    answer = sim.call("GET", f"/machines/nobody{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, 404)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Name=den-1", ["golden-1"]),
        ("name=golden", ["golden-1", "golden-2"]),
        ("Name=GOLDEN-2,i", ["golden-2"]),
        ("State=^run", ["golden-2"]),
        ("Hardware.cpu.cpus=1", ["golden-1", "golden-2"]),
        ("Nothing=x", []),
    ],
)
def test_filter(sim: Any, text: str, names: list[str]) -> None:
    records = sim.call("GET", "/machines", headers=KEY | {"X-Filter": text}).json()
    assert [record["Name"] for record in records] == names


@pytest.mark.parametrize("text", ["Name", "Name=a=b", "Name=("])
def test_bad_filter(sim: Any, text: str) -> None:
    assert sim.call("GET", "/machines", headers=KEY | {"X-Filter": text}).status_code == 400
