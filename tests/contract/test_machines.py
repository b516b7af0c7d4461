"""Machines in the order in which tools call them, against the running product."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.running import Site, finished
from tests.support.product import until
from tests.support.team import ok

if TYPE_CHECKING:
    import httpx

POOL = "/orchestrator/machines"
MANIFEST = {"catalog_id": "ubuntu-2404", "version": "1.0.0", "connection": "host=u:p@http://x:1"}


def create(tool: httpx.Client, name: str, path: str = POOL, **more: Any) -> dict[str, Any]:
    body = {"name": name, "architecture": "arm64", "catalog_manifest": MANIFEST} | more
    answer = tool.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def said(answer: httpx.Response, status: int, text: str = "") -> bool:
    """Assert a refusal in the first shape of errors; return True."""
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == status
    assert text in answer.json()["message"]
    return True


@pytest.fixture
def bob(site: Site) -> Any:
    with site.tool("bob") as tool:
        yield tool
    finished(site)


@pytest.mark.stores
def test_terraform(site: Site, bob: httpx.Client) -> None:
    """Look for the name, create, stop, size, start, wait for the address, execute, destroy."""
    named = {"X-Filter": "Name=tf-vm", "X-No-Cache": "true", "Content-Type": "application/json"}
    other = create(bob, "tf-vm2")
    assert bob.get(f"{POOL}/", headers=named).json() == []
    made = create(
        bob,
        "tf-vm",
        owner="terraform",
        catalog_manifest=MANIFEST | {"machine_name": "tf-vm", "start_after_pull": True},
        selection_tags=[],
    )
    assert made["current_state"] == "stopped"
    (listed,) = bob.get(f"{POOL}/", headers=named).json()
    assert (listed["ID"], listed["State"], listed["Hardware"]["cpu"]["cpus"]) == (
        made["id"],
        "stopped",
        2,
    )
    assert listed["host_id"] in site.hosts.values()

    def configure(group: str, operation: str, value: str = "") -> httpx.Response:
        row: dict[str, Any] = {"owner": "t", "group": group, "operation": operation}
        row["value"] = value
        row |= {"options": [], "flags": [], "error": None}
        return bob.put(f"{POOL}/tf-vm/set", json={"owner": "t", "operations": [row]})

    assert configure("state", "stop").json() == {
        "operations": [{"group": "state", "operation": "stop", "status": "Success"}]
    }
    rows = [
        {"group": "cpu", "operation": "set", "value": "4"},
        {"group": "memory", "operation": "set", "value": "4096"},
    ]
    sized = bob.put(f"{POOL}/{made['id']}/set", json={"operations": rows})
    assert [row["status"] for row in sized.json()["operations"]] == ["Success", "Success"]
    assert bob.put(f"{POOL}/tf-vm/set", json={"operations": rows}).status_code == 200  # again
    assert configure("state", "start").status_code == 200
    assert configure("state", "start").status_code == 200
    shown = bob.get(f"{POOL}/TF-VM").json()
    assert (shown["State"], shown["Hardware"]["memory"]["size"]) == ("running", "4096Mb")
    assert said(configure("cpu", "set", "2"), 400)  # it runs
    until(lambda: bob.get(f"{POOL}/tf-vm").json()["internal_ip_address"] != "-", 30, "an address")
    ran = bob.put(
        f"{POOL}/tf-vm/execute",
        json={"command": "printenv A", "environment_variables": {"A": "b"}},
    )
    assert ran.json() == {"stdout": "b\n", "exit_code": 0}
    assert bob.put(f"{POOL}/tf-vm/execute", json={"command": "false"}).json()["exit_code"] == 1
    as_root = {"command": "whoami", "user": "ci", "use_sudo": True}
    assert bob.put(f"{POOL}/tf-vm/execute", json=as_root).json()["stdout"] == "root\n"
    site.simulation.control(files={"/Users/ci/a.sh": "echo $1\n"})
    scripted = {"command": "whoami", "script": {"path": "/Users/ci/a.sh", "parameters": "'a b'"}}
    with site.tool("root") as admin:
        ran = admin.put(f"{POOL}/tf-vm/execute", json=scripted)
        assert ran.json() == {"stdout": "a b\nparallels\n", "exit_code": 0}
    # Destroy: stop, delete, look until it is not found.
    assert said(bob.delete(f"{POOL}/tf-vm"), 400, "Stop it first")
    assert configure("state", "stop").status_code == 200
    gone = bob.delete(f"{POOL}/tf-vm")
    assert (gone.status_code, gone.content) == (202, b"")
    assert said(bob.get(f"{POOL}/tf-vm"), 404)
    assert bob.get(f"{POOL}/{other['id']}").status_code == 202
    # A clone in either spelling, of a stopped machine and of the base of a template.
    assert bob.get("/machines/base-ubuntu").json()["State"] == "stopped"
    clone = {"group": "machine", "operation": "clone"}
    for name, how in {
        "by-value": {"value": "by-value", "flags": ["regenerate-src-uuid"]},
        "by-option": {"value": "", "options": [{"flag": "name", "value": "by-option"}]},
    }.items():
        answer = bob.put(f"{POOL}/tf-vm2/set", json={"operations": [clone | how]})
        assert answer.status_code == 200, answer.text
        assert bob.get(f"/machines/{name}").json()["State"] == "stopped"
    hurt = bob.put(f"{POOL}/tf-vm2/set", json={"operations": [{"group": "cmd", "operation": "x"}]})
    assert said(hurt, 501, "not offered")


@pytest.mark.stores
def test_terraform_with_config_prlctl_and_shared_folder(site: Site, bob: httpx.Client) -> None:
    """The blocks in the order of the provider: each stops the VM where it must, and sets then."""
    made = create(bob, "tf-blocks", start_on_create=True)
    path = f"{POOL}/{made['id']}"
    until(lambda: bob.get(path).json()["State"] == "running", 30, "it runs")

    def configure(group: str, operation: str, value: str = "", **more: Any) -> httpx.Response:
        options = [{"flag": flag, "value": text} for flag, text in more.get("options", {}).items()]
        row: dict[str, Any] = {"owner": "", "group": group, "operation": operation}
        row |= {"value": value, "options": options, "flags": more.get("flags", []), "error": None}
        return bob.put(f"{path}/set", json={"owner": "parallels", "operations": [row]})

    def did(answer: httpx.Response) -> bool:
        assert answer.status_code == 200, answer.text
        assert [one["status"] for one in answer.json()["operations"]] == ["Success"]
        return True

    headless = {"startup-view": "headless"}
    assert said(configure("cmd", "set", options=headless), 400, "stopped")  # so it stops it first
    assert did(configure("state", "stop"))
    for options in (
        headless,
        {"rosetta-linux": "on"},
        {"pause-idle": "off"},
        {"autostart": "start-host"},
        {"description": "by Terraform", "autostart-delay": "20"},  # a block prlctl
    ):
        assert did(configure("cmd", "set", options=options))
    assert did(configure("state", "start"))
    folder = {"path": "/Users/Shared/ci/src", "mode": "ro", "shf-description": "Sources"}
    assert did(configure("shared-folder", "add", "src", options=folder, flags=["enable"]))
    assert did(configure("shared-folder", "set", "src", options=folder, flags=["disabled"]))
    assert did(configure("time", "time-sync", "off"))
    shown = bob.get(path).json()
    assert shown["State"] == "running"
    startup = shown["Startup and Shutdown"]
    assert (startup["Startup view"], startup["Pause idle"]) == ("headless", "off")
    assert (startup["Autostart"], startup["Autostart delay"]) == ("start-host", 20)
    assert shown["Advanced"]["Rosetta Linux"] == "on"
    assert shown["Description"] == "by Terraform"
    assert shown["Time Synchronization"]["enabled"] is False
    assert shown["Host Shared Folders"] == {
        "enabled": True,
        "src": {"enabled": False, "path": "/Users/Shared/ci/src", "mode": "ro"},
    }
    # As its host has it, and not only as it is told.
    with site.tool("root") as admin:
        number = int(shown["host_name"].removeprefix("mac-"))
        (vm,) = [
            one
            for one in site.simulation.control(number)["vms"]
            if one["name"].startswith("tf-blocks-")
        ]
        assert vm["configuration"]["options"]["rosetta-linux"] == "on"
        assert vm["configuration"]["folders"]["src"]["mode"] == "ro"
        # What Bob may not show himself, who manages hosts may.
        secret = {"path": "/Users/ci/.ssh"}
        shared = configure("shared-folder", "add", "keys", options=secret)
        assert said(shared, 403, "right to manage hosts")
        row: dict[str, Any] = {"group": "shared-folder", "operation": "add", "value": "keys"}
        row["options"] = [{"flag": "path", "value": "/Users/ci/keys"}]
        assert did(admin.put(f"{path}/set", json={"operations": [row]}))
    assert did(configure("shared-folder", "delete", "keys"))
    assert did(configure("shared-folder", "delete", "src"))
    assert bob.get(path).json()["Host Shared Folders"] == {}
    assert said(configure("cmd", "exec", options={"x": "id"}), 501, "not offered")
    assert said(configure("cmd", "set", options={"shf-host-add": "x"}), 501, "shared-folder")
    # The golden example: all of it in one request, to a VM that is stopped.
    assert did(configure("cmd", "stop", flags=["kill"]))
    rows = [
        {"group": "cpu", "operation": "set", "value": "3"},
        {"group": "memory", "operation": "set", "value": "3072"},
        {
            "group": "shared-folder",
            "operation": "add",
            "options": [
                {"flag": "name", "value": "src"},
                {"flag": "path", "value": "/Users/Shared/ci"},
            ],
        },
    ]
    answer = bob.put(f"{path}/set", json={"owner": "ci", "operations": rows})
    assert answer.status_code == 200, answer.text
    assert answer.json()["operations"][2] == {
        "group": "shared-folder",
        "operation": "add",
        "status": "Success",
    }
    shown = bob.get(path).json()
    assert (shown["Hardware"]["cpu"]["cpus"], shown["Hardware"]["memory"]["size"]) == (3, "3072Mb")
    assert shown["Host Shared Folders"]["src"]["mode"] == "rw"


@pytest.mark.stores
def test_snapshots_rename_jobs_and_async_creates(site: Site, bob: httpx.Client) -> None:
    wanted = {"name": "ui-vm", "architecture": "", "owner": "", "startOnCreate": True}
    begun = bob.post("/machines/async", json=wanted | {"catalog_manifest": MANIFEST})
    assert begun.status_code == 202
    job = begun.json()
    assert (job["job_type"], job["job_operation"], job["state"]) == (
        "orchestrator",
        "create",
        "pending",
    )

    def ended() -> Any:
        seen = bob.get(f"/jobs/{job['id']}").json()
        return seen if seen["state"] in ("completed", "failed") else None

    done = until(ended, 60, "the job ends")
    assert (done["state"], done["progress"], done["result_record_type"]) == (
        "completed",
        100,
        "virtual_machine",
    )
    assert {step["state"] for step in done["steps"]} == {"completed"}
    vm_id = done["result_record_id"]
    assert bob.get(f"/machines/{vm_id}").json()["Name"] == "ui-vm"

    taken = bob.post(f"{POOL}/ui-vm/snapshots", json={"snapshot_name": "clean"})
    assert (taken.status_code, taken.json()["snapshot_name"]) == (202, "clean")
    second = bob.post(f"{POOL}/ui-vm/snapshots", json={"snapshot_name": "later"})
    assert bob.get(f"{POOL}/ui-vm/snapshots").status_code == 200
    grouped = bob.get("/machines/ui-vm/snapshots?group=true")
    assert grouped.status_code == 202
    (root,) = grouped.json()["snapshots"]
    assert (root["name"], root["children"][0]["name"]) == ("clean", "later")
    first = taken.json()["snapshot_id"]
    back = bob.post(f"{POOL}/ui-vm/snapshots/{first}/revert", json={"skip_resume": True})
    assert (back.status_code, back.json()["success"]) == (202, True)
    later = second.json()["snapshot_id"]
    gone = bob.request("DELETE", f"{POOL}/ui-vm/snapshots/{later}", json={"delete_children": True})
    assert (gone.status_code, gone.content) == (202, b"")
    assert bob.delete(f"{POOL}/ui-vm/snapshots").status_code == 202
    assert bob.get(f"{POOL}/ui-vm/snapshots").json() == {"snapshots": []}
    assert said(bob.delete(f"{POOL}/ui-vm/snapshots/none"), 404)

    named = bob.put(f"{POOL}/ui-vm/rename", json={"id": vm_id, "new_name": "golden"})
    assert (named.status_code, named.json()["Name"]) == (200, "golden")
    for verb, state in (
        ("suspend", "suspended"),
        ("resume", "running"),
        ("pause", "paused"),
        ("start", "running"),
        ("restart", "running"),
        ("reset", "running"),
    ):
        did = bob.put(f"{POOL}/golden/{verb}", content=b'{"errorPrefix":"x"}')
        assert (did.status_code, did.json()["operation"]) == (200, verb.capitalize()), did.text
        assert bob.get(f"{POOL}/golden").json()["State"] == state
    # Jenkins deletes what runs; jobs leave the list only when they have ended.
    assert bob.delete("/machines/golden", params={"force": "true"}).status_code == 202
    assert bob.delete(f"/jobs/{job['id']}").status_code == 204
    assert said(bob.get(f"/jobs/{job['id']}"), 404)
    assert bob.get("/jobs").json()
    cleaned = bob.delete("/jobs/cleanup")
    assert (cleaned.status_code, cleaned.content) == (200, b"")
    assert bob.get("/jobs").json() == []


def test_what_a_compatible_server_must_not_do(site: Site, bob: httpx.Client) -> None:
    with site.tool("eve") as eve, site.tool("root") as admin:
        made = create(bob, "mine")
        # Nobody else's machines, whatever headers ask for, in any spelling of the path.
        loud = {"X-Super-User": "true", "X-Roles": "U1VQRVJfVVNFUg==", "X-SOURCE": "x"}
        for path in (f"{POOL}/mine", f"/machines/{made['id']}", f"{POOL}/mine/status"):
            assert said(eve.get(path, headers=loud), 404)
        assert said(eve.put(f"{POOL}/mine/start", headers=loud), 404)
        assert said(eve.put(f"{POOL}/mine/clone", json={"clone_name": "x"}), 404)
        assert said(eve.delete(f"{POOL}/mine?force=true"), 404)
        assert eve.get("/machines").json() == []
        assert said(eve.get("/machines/base-ubuntu"), 404)
        # Without a grant there is no image, neither at once nor asynchronously.
        body = {"name": "x", "architecture": "arm64", "catalog_manifest": MANIFEST}
        for path in (POOL, f"{POOL}/async", "/machines", "/machines/async"):
            assert said(eve.post(path, json=body), 404, "Ask for a grant")
        job = bob.get("/jobs").json()[0]["id"]
        assert said(eve.get(f"/jobs/{job}"), 404)
        assert said(eve.delete(f"/jobs/{job}"), 404)
        assert said(eve.get(f"/ended/execute/{job}"), 404)
        # Files of a host's disk are for those who manage hosts.
        upload = {"path": "/etc/passwd", "remote_path": "/tmp/x"}
        assert bob.post("/machines/mine/upload", json=upload).status_code == 401
        assert said(bob.put("/machines/mine/execute", json={"command": "true"}), 400, "stopped")
        script = {"command": "true", "script": {"path": "/etc/x", "remote_path": "/tmp/x"}}
        assert bob.put("/machines/mine/execute", json=script).status_code == 401
        # Another source, no name, a name in use, an image in no template, a host out of sight.
        assert said(bob.post(POOL, json={"name": "v", "vagrant_box": {"box": "x"}}), 501)
        assert said(bob.post(POOL, json={"catalog_manifest": MANIFEST}), 400, "name")
        assert said(bob.post(POOL, json=body | {"name": "mine"}), 400, "exists")
        unknown = body | {"catalog_manifest": {"catalog_id": "windows", "version": "latest"}}
        assert said(bob.post(POOL, json=unknown), 404)
        host = site.hosts["mac-2"]
        pinned = f"/orchestrator/hosts/{host}/machines"
        assert said(bob.post(pinned, json=body), 404)
        placed = create(admin, "pinned", pinned, start_on_create=False)
        assert admin.get(f"{POOL}/pinned").json()["host_id"] == host
        assert "pinned" in [row["Name"] for row in admin.get(pinned).json()]
        elsewhere = site.hosts["mac-1"]
        assert said(admin.get(f"/orchestrator/hosts/{elsewhere}/machines/pinned"), 404)
        assert placed["host"].endswith("/api")
        # The grant ends: what is asked for again is refused by its code.
        grants = ok(site.admin.get("/grants/", params={"template": "ubuntu-ci"}))["results"]
        (grant,) = (one["id"] for one in grants if (one["user"] or {}).get("name") == "bob")
        ok(site.admin.post(f"/grants/{grant}/revoke/", json={"running_vms": "keep"}))
        assert said(bob.post(POOL, json=body), 403, "revoked")
        again = {"template": "ubuntu-ci", "user": "bob", "level": "use"}
        ok(site.admin.post("/grants/", json=again))


def test_a_full_pool_is_told_and_leaves_nothing(site: Site, bob: httpx.Client) -> None:
    body = {
        "name": "huge",
        "architecture": "x86_64",
        "catalog_manifest": MANIFEST | {"specs": {"cpu": 500, "memory": "1024"}},
    }
    assert said(bob.post(POOL, json=body), 400, "No host available")
    assert said(bob.get(f"{POOL}/huge"), 404)
    tagged = body | {"selection_tags": ["nowhere"], "catalog_manifest": MANIFEST}
    assert said(bob.post(POOL, json=tagged), 400, "nowhere")


def test_a_held_call_ends_with_the_right_to_make_it(site: Site, bob: httpx.Client) -> None:
    """The command of a VM runs on for a long time yet; who asked for it no longer waits for it."""
    made = create(bob, "slow", start_on_create=True)
    [user] = ok(site.admin.get("/users/", params={"username": "bob"}))["results"]
    with ThreadPoolExecutor(1) as pool:
        command = {"command": "sleep 30"}
        held = pool.submit(bob.put, f"{POOL}/{made['id']}/execute", json=command)
        jobs = {"kind": "vm.execute", "subject": f"vm:{made['id']}"}
        until(lambda: ok(site.admin.get("/jobs/", params=jobs))["results"], 20, "it is there")
        began = time.monotonic()
        ok(site.admin.post(f"/users/{user['id']}/sign-out/"))
        assert held.result(20).status_code == 401
        assert time.monotonic() - began < 10  # five times the promise
