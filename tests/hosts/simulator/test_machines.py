"""The life of a VM on a simulated host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

MANIFEST = {"catalog_id": "ubuntu-2404", "version": "1.0"}


def names(sim: Any, k: int = 1) -> list[str]:
    return [vm["name"] for vm in sim.look(k)["vms"]]


# -- create ----------------------------------------------------------------------------------


def test_create_in_a_job(sim: Any) -> None:
    answer = sim.create_async("build-1")
    job = answer.json()
    assert answer.status_code == 202
    assert (job["state"], job["job_type"], job["job_operation"]) == (
        "pending",
        "machines",
        "create",
    )
    job = sim.ended_job(job["id"])
    assert (job["state"], job["progress"]) == ("completed", 100)
    assert (job["result_record_name"], job["result_record_type"]) == ("build-1", "virtual_machine")
    assert sim.call("GET", f"/machines/{job['result_record_id']}").json()["State"] == "running"
    assert {step["state"] for step in job["steps"]} <= {"completed", "skipped"}


def test_orchestrators_job_id_is_used_and_never_deduplicated(sim: Any) -> None:
    answer = sim.create_async("build-1", job_id="ours")
    assert answer.status_code == 202
    assert (answer.json()["id"], answer.json()["state"]) == ("ours", "")
    job = sim.ended_job("ours")
    assert job["state"] == "completed" and job["is_orchestrator_job"]
    assert sim.create_async("build-1", job_id="ours").status_code == 202
    job = sim.ended_job("ours")
    assert job["state"] == "failed" and "already exists" in job["error"]
    assert names(sim).count("build-1") == 1


def test_job_id_counts_only_from_an_orchestrator(sim: Any) -> None:
    answer = sim.call(
        "POST",
        "/machines/async",
        headers=sim.login() | {"X-ORCHESTRATOR-JOB-ID": "ours"},
        json={"name": "a", "catalog_manifest": MANIFEST},
    )
    assert answer.json()["id"] != "ours"


def test_progress_and_steps(simulator: Callable[..., Any], wait_until: Callable[..., Any]) -> None:
    sim = simulator("--clone-seconds", 0.3, "--boot-seconds", 0.3)
    job_id = sim.create_async("build-1").json()["id"]
    login = sim.login()
    seen: list[int] = []
    states: set[str] = set()

    def ended() -> bool:
        job = sim.call("GET", f"/jobs/{job_id}", headers=login).json()
        seen.append(job["progress"])
        states.update(vm["state"] for vm in sim.look()["vms"])
        return job["state"] == "completed"

    wait_until(ended)
    assert seen == sorted(seen) and len(set(seen)) > 5
    assert states == {"starting", "running"}
    wait_until(lambda: sim.look()["vms"][0]["ip"].startswith("10.211.1."))


def test_second_pull_is_faster(simulator: Callable[..., Any]) -> None:
    sim = simulator("--clone-seconds", 0.4, "--boot-seconds", 0)
    took = []
    for name in ("a-1", "b-1"):
        begun = time.monotonic()
        sim.make(name)
        took.append(time.monotonic() - begun)
    assert took[0] >= 0.8
    assert 0.4 <= took[1] < took[0]


def test_synchronous_create_goes_on_without_its_caller(
    simulator: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    sim = simulator("--clone-seconds", 0.4, "--boot-seconds", 0)
    with pytest.raises(httpx.ReadTimeout):
        sim.call("POST", "/machines", json={"name": "a", "catalog_manifest": MANIFEST}, timeout=0.2)
    assert names(sim) == []
    wait_until(lambda: names(sim) == ["a"])


def test_created_without_start_is_stopped(sim: Any) -> None:
    assert sim.make("a-1", start_on_create=False)["current_state"] == "stopped"


@pytest.mark.parametrize(
    "request_body",
    [
        None,
        {"catalog_manifest": MANIFEST},
        {"name": "a"},
        {"name": "a", "catalog_manifest": {}},
        {"name": "a", "catalog_manifest": MANIFEST, "vagrant_box": {}},
        {"name": "a", "vagrant_box": {"box": "x"}},
        {"name": "a", "catalog_manifest": MANIFEST, "architecture": "x86_64"},
        {"name": "a", "catalog_manifest": MANIFEST | {"specs": {"cpu": 4}}},
        {"name": "a", "catalog_manifest": MANIFEST | {"specs": {"cpu": "0"}}},
        {"name": "a(", "catalog_manifest": MANIFEST},
        {"name": ["a"], "catalog_manifest": MANIFEST},
    ],
)
def test_refused_requests(sim: Any, request_body: Any) -> None:
    for path in ("/machines", "/machines/async"):
        if path == "/machines/async" and request_body and request_body.get("name") == "a(":
            continue
        answer = sim.call("POST", path, json=request_body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["code"] == 400
    assert names(sim) == ["golden-1", "golden-2"]


def test_query_string_hides_the_body(sim: Any) -> None:
    answer = sim.call("POST", "/machines?x=1", json={"name": "a", "catalog_manifest": MANIFEST})
    assert answer.status_code == 400


def test_aliases_of_architectures_and_key_case(sim: Any) -> None:
    sim.make("a-1", architecture="aarch64")
    answer = sim.call("POST", "/machines", json={"NAME": "b-1", "Catalog_Manifest": MANIFEST})
    assert answer.status_code == 200


def test_unanchored_name_answers_with_the_other_vm(sim: Any) -> None:
    ten = sim.make("build-10")
    assert sim.make("build-1")["id"] == ten["id"]
    job = sim.ended_job(sim.create_async("build-1").json()["id"])
    assert (job["state"], job["result_record_id"]) == ("completed", ten["id"])
    assert names(sim) == ["golden-1", "golden-2", "build-10"]


def test_same_name_is_refused(sim: Any) -> None:
    sim.make("build-1")
    answer = sim.call("POST", "/machines", json={"name": "build-1", "catalog_manifest": MANIFEST})
    assert answer.status_code == 400
    assert sim.ended_job(sim.create_async("build-1").json()["id"])["state"] == "failed"


def test_only_two_macos_vms_run(sim: Any) -> None:
    specs = {"catalog_manifest": MANIFEST | {"specs": {"type": "macvm"}}}
    vms = [sim.make(name, **specs) for name in ("mac-a", "mac-b")]
    in_use = sim.call("GET", "/config/hardware").json()["total_in_use"]
    assert in_use["mac_vms_running"] == [vm["id"] for vm in vms]
    job = sim.ended_job(sim.create_async("mac-c", **specs).json()["id"])
    assert job["state"] == "failed"
    assert sim.call("GET", "/machines/mac-c").json()["State"] == "stopped"
    assert sim.call("GET", "/machines/mac-c").json()["Type"] == "APPLE_VZ_VM"


def test_clone(sim: Any) -> None:
    answer = sim.call("PUT", "/machines/golden-1/clone", json={"clone_name": "copy-1"})
    assert answer.status_code == 200 and answer.json()["status"] == "Success"
    copy = sim.call("GET", f"/machines/{answer.json()['id']}").json()
    assert (copy["Name"], copy["State"]) == ("copy-1", "stopped")
    assert copy["Hardware"]["memory"]["size"] == "1024Mb"
    again = sim.call("PUT", "/machines/golden-1/clone", json={"clone_name": "copy-1"})
    assert again.status_code == 400
    assert sim.call("PUT", "/machines/golden-1/clone", json={"x": 1}).status_code == 400


def test_jobs_are_listed_and_forgotten(sim: Any) -> None:
    first, second = (sim.create_async(name).json()["id"] for name in ("a-1", "b-1"))
    sim.ended_job(first)
    sim.ended_job(second)
    login = sim.login()
    assert len(sim.call("GET", "/jobs", headers=login).json()) == 2
    assert sim.call("DELETE", f"/jobs/{first}", headers=login).status_code == 204
    assert sim.call("GET", f"/jobs/{first}", headers=login).status_code == 404
    assert sim.call("DELETE", "/jobs/cleanup", headers=login).status_code == 200
    assert sim.call("GET", "/jobs", headers=login).json() == []


# -- states ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verbs", "state"),
    [
        (["start"], "running"),
        (["start", "start"], "running"),
        (["start", "suspend"], "suspended"),
        (["start", "suspend", "resume"], "running"),
        (["start", "suspend", "start"], "running"),
        (["start", "pause"], "paused"),
        (["start", "pause", "resume"], "running"),
        (["start", "restart"], "running"),
        (["start", "reset"], "running"),
        (["start", "stop"], "stopped"),
        (["stop"], "stopped"),
    ],
)
def test_state_verbs(sim: Any, verbs: list[str], state: str) -> None:
    for verb in verbs:
        answer = sim.call("PUT", f"/machines/golden-1/{verb}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["operation"] == verb.capitalize()
        assert answer.json()["status"] == "Success"
    assert sim.call("GET", "/machines/golden-1").json()["State"] == state


@pytest.mark.parametrize("verb", ["suspend", "resume", "pause", "restart", "reset"])
def test_verbs_refused_of_a_stopped_vm(sim: Any, verb: str) -> None:
    assert sim.call("PUT", f"/machines/golden-1/{verb}").status_code == 400


def test_old_host_wants_get(sim: Any) -> None:
    sim.patch(state_method="GET")
    assert sim.call("PUT", "/machines/golden-1/start").status_code == 405
    assert sim.call("GET", "/machines/golden-1/start").status_code == 200


def test_start_waits_for_the_boot_and_force_stop_ends_it(
    simulator: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    sim = simulator("--vms", 1, "--boot-seconds", 60)
    answers: list[httpx.Response] = []

    def boot() -> None:
        answers.append(httpx.put(url, headers=login, timeout=30))

    login = sim.login()
    url = f"{sim.url}/h/1/api/v1/machines/golden-1/start"
    thread = threading.Thread(target=boot)
    thread.start()
    wait_until(lambda: sim.look()["vms"][0]["state"] == "starting")
    assert sim.call("PUT", "/machines/golden-1/suspend").status_code == 400
    assert sim.call("DELETE", "/machines/golden-1").status_code == 400
    assert sim.call("PUT", "/machines/golden-1/stop?force=true").status_code == 200
    thread.join(10)
    assert answers[0].status_code == 400
    assert sim.look()["vms"][0]["state"] == "stopped"


def test_delete(sim: Any) -> None:
    assert sim.call("DELETE", "/machines/golden-2").status_code == 400
    answer = sim.call("DELETE", "/machines/golden-2?force=true")
    assert (answer.status_code, answer.content) == (202, b"")
    assert sim.call("DELETE", "/machines/golden-1").status_code == 202
    assert sim.call("DELETE", "/machines/golden-1").status_code == 404
    assert sim.call("GET", "/machines").json() == []


# -- change and use --------------------------------------------------------------------------


def test_set(sim: Any) -> None:
    operations = [
        {"group": "cpu", "operation": "set", "value": "6"},
        {"group": "memory", "operation": "set", "value": "12288"},
        {
            "group": "shared-folder",
            "operation": "add",
            "value": "src",
            "options": [{"flag": "path", "value": "/Users/ci/src"}],
        },
        {"group": "state", "operation": "start"},
    ]
    answer = sim.call("PUT", "/machines/golden-1/set", json={"operations": operations})
    assert answer.status_code == 200
    assert [row["status"] for row in answer.json()["operations"]] == ["Success"] * 4
    record = sim.look()["vms"][0]
    assert (record["cpus"], record["memory"], record["state"]) == (6, 12288, "running")
    refused = sim.call("PUT", "/machines/golden-1/set", json={"operations": operations[:1]})
    assert refused.status_code == 400
    folders = sim.call("GET", "/machines/golden-1").json()["Host Shared Folders"]
    assert folders["src"] == {"enabled": True, "path": "/Users/ci/src", "mode": "rw"}


def test_set_shows_in_the_record_and_refuses_what_prlctl_does_not_know(sim: Any) -> None:
    def configure(group: str, operation: str, value: str = "", **more: Any) -> int:
        row: dict[str, Any] = {"group": group, "operation": operation, "value": value}
        if options := more.pop("options", None):
            row["options"] = [{"flag": flag, "value": text} for flag, text in options.items()]
        body = {"operations": [row | more]}
        return int(sim.call("PUT", "/machines/golden-1/set", json=body).status_code)

    before = sim.call("GET", "/machines/golden-2").json()
    wanted = {"startup-view": "headless", "autostart-delay": "9", "cpus": "3", "memsize": "4096"}
    assert configure("cmd", "set", options=wanted) == 200
    for group, operation, value in (
        ("rosetta", "set", "true"),
        ("cpu", "set_type", "x86"),
        ("boot-order", "boot-order", "net0 hdd0"),
        ("time", "time-sync", "off"),
        ("device", "disconnect", "net0"),
        ("network", "set", "anything"),
    ):
        assert configure(group, operation, value) == 200, group
    shown = sim.call("GET", "/machines/golden-1").json()
    assert shown["Startup and Shutdown"]["Startup view"] == "headless"
    assert shown["Startup and Shutdown"]["Autostart delay"] == 9
    assert shown["Advanced"]["Rosetta Linux"] == "on"
    assert shown["Hardware"]["cpu"] | {"cpus": 3, "type": "x86"} == shown["Hardware"]["cpu"]
    assert shown["Hardware"]["memory"]["size"] == "4096Mb"
    assert shown["Hardware"]["net0"]["state"] == "disconnected"
    assert shown["Boot order"] == "net0 hdd0"
    assert shown["Time Synchronization"]["enabled"] is False
    other = sim.call("GET", "/machines/golden-2").json()
    assert {**other, "Uptime": 0} == {**before, "Uptime": 0}  # of this VM alone
    path = {"path": "/Users/ci"}
    refused = [
        ("cmd", "set", "", {"options": {"no-such-flag": "1"}}),
        ("cmd", "set", "", {"flags": ["template"]}),
        ("cmd", "exec", "", {"options": {"command": "id"}}),
        ("cpu", "set_type", "sparc", {}),
        ("shared-folder", "add", "", {"options": path}),
        ("shared-folder", "add", "src", {}),
        ("shared-folder", "set", "src", {"options": path}),
        ("shared-folder", "add", "src", {"options": path, "flags": ["enabled"]}),
        ("device", "connect", "hdd0", {}),
        ("no-such-group", "set", "", {}),
        ("machine", "install-tools", "", {}),
    ]
    for group, operation, value, more in refused:
        assert configure(group, operation, value, **more) == 400, (group, operation, more)
    assert configure("shared-folder", "add", "src", options=path | {"mode": "ro"}) == 200
    assert configure("shared-folder", "add", "src", options=path) == 400  # it is there
    assert configure("shared-folder", "set", "src", flags=["disable"]) == 200
    folders = sim.call("GET", "/machines/golden-1").json()["Host Shared Folders"]
    assert folders["src"] == {"enabled": False, "path": "/Users/ci", "mode": "ro"}
    assert configure("shared-folder", "delete", "src") == 200
    sim.call("PUT", "/machines/golden-1/start")
    for group, operation, value in (("rosetta", "set", "on"), ("cpu", "set_type", "arm")):
        assert configure(group, operation, value) == 400  # it runs
    assert configure("cmd", "set", options={"pause-idle": "on"}) == 400
    assert configure("time", "time-sync", "on") == 200
    assert configure("machine", "install-tools") == 200


def test_rename(sim: Any) -> None:
    new = {"current_name": "golden-1", "new_name": "silver", "description": "x"}
    record = sim.call("PUT", "/machines/golden-1/rename", json=new).json()
    assert (record["Name"], record["Description"]) == ("silver", "x")
    taken = sim.call("PUT", "/machines/silver/rename", json={"new_name": "golden-2"})
    assert taken.status_code == 400


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("echo ready", {"stdout": "ready\n", "exit_code": 0}),
        ("echo -n a; echo b", {"stdout": "ab\n", "exit_code": 0}),
        ("echo \"hi $CI ${CI}\" '$CI'", {"stdout": "hi 1 1 $CI\n", "exit_code": 0}),
        ("true", {"exit_code": 0}),
        ("false", {"exit_code": 1, "error": "exit status 1"}),
        ("exit 65; echo no", {"exit_code": 65, "error": "exit status 65"}),
        ("false && echo no || echo yes", {"stdout": "yes\n", "exit_code": 0}),
        ("echo bad >&2", {"stderr": "bad\n", "exit_code": 0}),
        ("printenv CI", {"stdout": "1\n", "exit_code": 0}),
        ("hostname", {"stdout": "golden-2\n", "exit_code": 0}),
        ("sleep 0.01", {"exit_code": 0}),
        (
            "mkdir -p /a && printf %s 'aGkK' | base64 -d > '/a/b c'\n# not this\ncat '/a/b c'",
            {"stdout": "hi\n", "exit_code": 0},
        ),
        (
            "printf %s x > y ; printf %s z >> y ; mv -f y w && rm -f v ; cat w && test -f y",
            {"stdout": "xz", "exit_code": 1, "error": "exit status 1"},
        ),
        (
            "systemctl start web ; systemctl is-active web ; systemctl is-active db",
            {"stdout": "active\ninactive\n", "exit_code": 3, "error": "exit status 3"},
        ),
    ],
)
def test_execute(sim: Any, command: str, result: dict[str, Any]) -> None:
    request = {"command": command, "environment_variables": {"CI": "1"}}
    answer = sim.call("PUT", "/machines/golden-2/execute", json=request)
    assert (answer.status_code, answer.json()) == (200, result)


def test_execute_fails_as_in_a_shell(sim: Any) -> None:
    record = sim.call("PUT", "/machines/golden-2/execute", json={"command": "vi x"}).json()
    assert record["exit_code"] == 127 and "not found" in record["stderr"]
    record = sim.call("PUT", "/machines/golden-2/execute", json={"command": "echo 'x"}).json()
    assert record["exit_code"] == 2
    assert sim.call("PUT", "/machines/golden-2/execute", json={"a": 1}).status_code == 400
    answer = sim.call("PUT", "/machines/golden-1/execute", json={"command": "true"})
    assert answer.status_code == 400


def test_snapshots(sim: Any) -> None:
    ids = []
    for name in ("clean", "tools", "extra"):
        answer = sim.call("POST", "/machines/golden-2/snapshots", json={"snapshot_name": name})
        assert answer.status_code == 202 and answer.json()["snapshot_name"] == name
        ids.append(answer.json()["snapshot_id"])
    answer = sim.call("GET", "/machines/golden-2/snapshots")
    assert answer.status_code == 202
    records = answer.json()["snapshots"]
    assert [record["parent"] for record in records] == ["", ids[0], ids[1]]
    assert [record["current"] for record in records] == [False, False, True]
    (tree,) = sim.call("GET", "/machines/golden-2/snapshots?group=true").json()["snapshots"]
    assert tree["children"][0]["children"][0]["name"] == "extra"

    sim.call("PUT", "/machines/golden-2/stop")
    path = f"/machines/golden-2/snapshots/{ids[0]}/revert"
    assert sim.call("POST", path, json={"skip_resume": True}).status_code == 202
    assert sim.look()["vms"][1]["state"] == "running"

    assert sim.call("DELETE", f"/machines/golden-2/snapshots/{ids[1]}").status_code == 202
    records = sim.call("GET", "/machines/golden-2/snapshots").json()["snapshots"]
    assert [(record["name"], record["parent"]) for record in records] == [
        ("clean", ""),
        ("extra", ids[0]),
    ]
    children = {"delete_children": True}
    path = f"/machines/golden-2/snapshots/{ids[0]}"
    assert sim.call("DELETE", path, json=children).status_code == 202
    assert sim.call("GET", "/machines/golden-2/snapshots").json() == {"snapshots": []}
    assert sim.call("DELETE", path).status_code == 404
    sim.call("POST", "/machines/golden-2/snapshots")
    assert sim.call("DELETE", "/machines/golden-2/snapshots").status_code == 202
    assert sim.call("GET", "/machines/golden-2/snapshots").json() == {"snapshots": []}
