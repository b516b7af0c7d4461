"""What the driver sends for each call, and what it makes of the contract's answers."""

from __future__ import annotations

import asyncio
import base64
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest

from hosts.drivers import (
    AsyncDriver,
    CreateSpec,
    Driver,
    ErrorKind,
    HostError,
    Limits,
    open_async_driver,
    open_driver,
)
from hosts.drivers.base import Changes, SharedFolder


def driver_of(host: Any, **changes: str) -> Driver:
    return open_driver("parallels", host.connection(**changes))


def async_driver_of(host: Any, **changes: str) -> AsyncDriver:
    return open_async_driver("parallels", host.connection(**changes))


def spec(**changes: Any) -> CreateSpec:
    values: dict[str, Any] = {
        "name": "build-421-0123456789ABCDEF",
        "architecture": "arm64",
        "catalog_id": "MACOS-XCODE",
        "version": "16.2",
        "connection": "host=ci@example.com:catalog-pw@https://catalog.example;secret_key=s3cr3t",
        "type": "macvm",
        "cpus": 4,
        "memory_mib": 8192,
        "start": True,
    }
    return CreateSpec(**(values | changes))


def test_an_unknown_driver_is_named() -> None:
    with pytest.raises(ValueError, match="no driver 'vmware'; use one of: parallels"):
        open_driver("vmware", None)  # type: ignore[arg-type]


def test_probe_needs_no_login(host: Any) -> None:
    assert 0 < driver_of(host).probe() < 3000
    assert host.paths() == ["GET /api/health/probe"]
    headers = host.seen[0].headers
    assert headers["x-source"] == "ORCHESTRATOR_REQUEST"
    assert headers["x-logging"] == "IGNORE"
    assert "authorization" not in headers and "x-api-key" not in headers


def test_hardware(host: Any) -> None:
    hardware = driver_of(host).hardware()
    assert (hardware.architecture, hardware.cpu_brand) == ("arm64", "Apple M2 Pro")
    assert (hardware.total_cpus, hardware.reserved_cpus) == (12, 1)
    assert (hardware.total_memory_mib, hardware.reserved_memory_mib) == (32768, 2048)
    assert (hardware.total_disk_gib, hardware.reserved_disk_gib) == (950000 // 1024, 19)
    assert hardware.free_disk_gib == 500000 // 1024
    assert hardware.macos_slots == 2
    assert hardware.hardware_id == "licence-uuid"
    assert hardware.modules == ("api", "host", "cache")
    assert hardware.licensed and hardware.cache_enabled
    assert hardware.clock_offset_seconds is not None
    assert abs(hardware.clock_offset_seconds) < 2
    login = host.seen[0]
    assert login.path == "/api/v1/auth/token"
    assert login.body == {"email": "root@localhost", "password": "pass-word-1"}
    assert host.seen[1].headers["authorization"] == "Bearer eyJhbGciOi.first.token"


def test_used_disk_is_not_total_disk(host: Any, hardware_json: dict[str, Any]) -> None:
    del hardware_json["total_available"]["prl_home_total_size"]
    del hardware_json["total_available"]["prl_home_free_size"]
    host.answer("GET", "/v1/config/hardware", hardware_json)
    hardware = driver_of(host).hardware()
    assert hardware.total_disk_gib == (420000 + 510000) // 1024
    assert hardware.free_disk_gib == 510000 // 1024


@pytest.mark.parametrize(
    ("cpu_type", "os_name", "architecture", "slots"),
    [
        ("aarch64", "Linux", "arm64", 0),
        ("amd64", "macOS", "x86_64", 0),
        ("ARM64", "darwin", "arm64", 2),
    ],
)
def test_architectures(
    host: Any,
    hardware_json: dict[str, Any],
    cpu_type: str,
    os_name: str,
    architecture: str,
    slots: int,
) -> None:
    hardware_json |= {"cpu_type": cpu_type, "os_name": os_name}
    host.answer("GET", "/v1/config/hardware", hardware_json)
    hardware = driver_of(host).hardware()
    assert (hardware.architecture, hardware.macos_slots) == (architecture, slots)


def test_a_host_without_licence_has_no_identity(host: Any) -> None:
    del host.routes["GET", "/v1/config/parallels-desktop/license"]
    assert driver_of(host).hardware().hardware_id == ""


def test_the_clock_of_the_host(make_host: Any, reply: Any, hardware_json: dict[str, Any]) -> None:
    host = make_host()
    late = formatdate(time.time() + 600, usegmt=True).encode()
    import json

    content = json.dumps(hardware_json).encode()
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nDate: %s\r\n\r\n%s"
    host.route("GET", "/v1/config/hardware", reply(raw=raw % (late, content)))
    offset = driver_of(host).hardware().clock_offset_seconds
    assert offset is not None
    assert 595 < offset < 605
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n%s"
    host.route("GET", "/v1/config/hardware", reply(raw=raw % content))
    assert driver_of(host).hardware().clock_offset_seconds is None


def test_vms(host: Any, vm_json: dict[str, Any]) -> None:
    host.answer("GET", "/machines/%7Bvm-1%7D", vm_json)
    (listed,) = driver_of(host).list_vms()
    assert listed == driver_of(host).read_vm("{vm-1}")
    assert (listed.id, listed.name, listed.state, listed.type) == (
        "{vm-1}",
        "build-421",
        "running",
        "macvm",
    )
    assert (listed.cpus, listed.memory_mib, listed.disk_gib) == (4, 8192, 65)
    assert (listed.ip_address, listed.os, listed.user) == ("10.211.55.7", "macosx", "ci")


def test_a_vm_without_hardware_or_address(host: Any) -> None:
    bare = {
        "ID": "{x}",
        "Name": "x\x00\ud800" + "y" * 400,
        "State": "invalid",
        "Hardware": {"memory": {"size": ""}},
    }
    host.answer(
        "GET", "/machines", [bare | {"internal_ip_address": "-", "Network": {"ipAddresses": None}}]
    )
    (vm,) = driver_of(host).list_vms()
    assert (vm.cpus, vm.memory_mib, vm.disk_gib, vm.ip_address, vm.type) == (0, 0, 0, None, "pvm")
    assert vm.name.startswith("x\ufffd\ufffdyyy") and len(vm.name) == 255


def test_addresses_come_from_the_network_too(host: Any, vm_json: dict[str, Any]) -> None:
    del vm_json["internal_ip_address"]
    vm_json["Network"]["ipAddresses"] = [
        {"type": "ipv6", "ip": "fe80::1%en0"},
        {"type": "ipv4", "ip": "10.0.0.4/24"},
    ]
    host.answer("GET", "/machines", [vm_json])
    assert driver_of(host).list_vms()[0].ip_address == "10.0.0.4"


def test_status(host: Any) -> None:
    host.answer("GET", "/machines/a/status", {"id": "a", "status": "Running", "ip_configured": "-"})
    status = driver_of(host).status("a")
    assert (status.id, status.state, status.ip_address) == ("a", "running", None)


@pytest.mark.parametrize("name", ["a b", "ä/../b", "100%", "a?b#c", "%2e", "{x}", "a\\b;c", "..."])
def test_names_are_quoted_in_paths(host: Any, name: str) -> None:
    def echo(seen: Any) -> Any:
        from urllib.parse import unquote

        part = seen.path.removeprefix("/api/machines/").removesuffix("/status")
        assert "/" not in part
        return {"id": unquote(part), "status": "running", "ip_configured": "10.0.0.1"}

    class Everything(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            found = super().get(key)
            return found or (lambda seen: type(login)(200, echo(seen)))

    login = host.routes["POST", "/v1/auth/token"]
    host.routes = Everything(host.routes)
    assert driver_of(host).status(name).id == name


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_would_be_other_paths_are_not_sent(host: Any, name: str) -> None:
    with pytest.raises(HostError) as caught:
        driver_of(host).delete(name, force=True)
    assert caught.value.kind is ErrorKind.NOT_FOUND
    assert host.seen == []


def test_create_hands_over_our_job_id(host: Any) -> None:
    host.answer("POST", "/machines/async", {"id": "job-1", "state": "pending", "progress": 0}, 202)
    answer = driver_of(host).create(spec(owner="ci"), "job-1")
    assert (answer.host_job_id, answer.vm_id) == ("job-1", None)
    sent = host.seen[-1]
    assert sent.headers["x-internal-api-client"] == "true"
    assert sent.headers["x-orchestrator-job-id"] == "job-1"
    assert sent.body["name"] == "build-421-0123456789ABCDEF"
    assert sent.body["start_on_create"] is True
    manifest = sent.body["catalog_manifest"]
    assert manifest["specs"] == {"type": "macvm", "cpu": "4", "memory": "8192"}
    assert manifest["connection"].startswith("host=ci@") and "catalog_manager_id" not in manifest
    driver_of(host).create(spec(catalog_manager_id="m1"), "job-2")
    manifest = host.seen[-1].body["catalog_manifest"]
    assert manifest["catalog_manager_id"] == "m1" and "connection" not in manifest


@pytest.mark.parametrize("lack", ["404", "405", "plain 404"])
def test_create_blocks_on_a_host_without_jobs(host: Any, reply: Any, lack: str) -> None:
    if lack == "405":
        host.route("POST", "/machines/async", reply(405, content=b"", content_type=""))
    elif lack == "plain 404":
        text = reply(404, content=b"404 page not found", content_type="text/plain")
        host.route("POST", "/machines/async", text)
    name = spec().name
    host.answer("POST", "/machines", {"id": "{vm-9}", "name": name, "current_state": "running"})
    answer = driver_of(host).create(spec(), "job-1")
    assert (answer.host_job_id, answer.vm_id) == (None, "{vm-9}")
    assert host.paths()[-2:] == ["POST /api/machines/async", "POST /api/machines"]


def test_a_refused_create_is_not_sent_again_the_other_way(host: Any) -> None:
    message = {"message": "error 404: Catalog manifest macos-xcode not found", "code": 404}
    host.answer("POST", "/machines/async", message, 404)
    with pytest.raises(HostError) as caught:
        driver_of(host).create(spec(), "job-1")
    assert caught.value.kind is ErrorKind.NOT_FOUND
    assert not caught.value.outcome_unknown
    assert host.paths()[-1] == "POST /api/machines/async"


def test_a_create_answered_with_another_vm(host: Any) -> None:
    host.answer("POST", "/machines", {"id": "{vm-9}", "name": "build-4210"})
    with pytest.raises(HostError) as caught:
        driver_of(host).create(spec(), "job-1")
    assert caught.value.kind is ErrorKind.BAD_ANSWER
    assert caught.value.outcome_unknown


def test_clone_and_configure(host: Any) -> None:
    host.answer("PUT", "/machines/a/clone", {"id": "{vm-2}", "status": "Success"})
    host.answer("PUT", "/machines/a/set", {"operations": [{"group": "cpu", "status": "Success"}]})
    driver = driver_of(host)
    assert driver.clone("a", "build-422") == "{vm-2}"
    assert host.seen[-1].body == {"clone_name": "build-422"}
    driver.configure("a", 6, 12288)
    assert [o["value"] for o in host.seen[-1].body["operations"]] == ["6", "12288"]


def test_a_change_of_the_configuration(host: Any) -> None:
    """Each option by the group of its own where there is one: `cmd` wants a stopped VM."""
    host.answer("PUT", "/machines/a/set", {"operations": []})
    changes = Changes(
        options={"pause-idle": "on", "time-sync": "off", "rosetta-linux": "on", "autostop": "stop"},
        added_folders={"src": SharedFolder("/src", writable=True, description="Sources")},
        changed_folders={"old": SharedFolder("/old", enabled=False)},
        removed_folders=("gone",),
        devices={"net0": False, "sound0": True},
        actions=("reset-uptime",),
    )
    assert changes
    assert not Changes()
    driver_of(host).change("a", changes)
    folder = {"group": "shared-folder"}
    assert host.seen[-1].body["operations"] == [
        {"group": "time", "operation": "time-sync", "value": "off"},
        {"group": "rosetta", "operation": "set", "value": "on"},
        {
            "group": "cmd",
            "operation": "set",
            "options": [
                {"flag": "pause-idle", "value": "on"},
                {"flag": "autostop", "value": "stop"},
            ],
        },
        folder | {"operation": "delete", "value": "gone"},
        folder
        | {
            "operation": "add",
            "value": "src",
            "options": [
                {"flag": "path", "value": "/src"},
                {"flag": "mode", "value": "rw"},
                {"flag": "shf-description", "value": "Sources"},
            ],
            "flags": ["enable"],
        },
        folder
        | {
            "operation": "set",
            "value": "old",
            "options": [{"flag": "path", "value": "/old"}, {"flag": "mode", "value": "ro"}],
            "flags": ["disable"],
        },
        {"group": "device", "operation": "disconnect", "value": "net0"},
        {"group": "device", "operation": "connect", "value": "sound0"},
        {"group": "machine", "operation": "reset-uptime"},
    ]


def test_the_configuration_of_a_vm(host: Any) -> None:
    record = {
        "Startup and Shutdown": {"Startup view": "headless", "Autostart delay": 30},
        "Time Synchronization": {"enabled": True},
        "Boot order": "hdd0 cdrom0  net0 ",
        "Advanced": {"Rosetta Linux": None, "Show developer tools": ["on"]},
        "Optimization": "unknown",
        "Hardware": {
            "video": {"size": "64Mb"},
            "cpu": {"type": "arm"},
            "net0": {"enabled": True, "state": "disconnected"},
            "cdrom0": {"enabled": True},
            "hdd0": {"size": "1024Mb"},
        },
        "Host Shared Folders": {
            "enabled": True,
            "src": {"enabled": False, "path": "/Users/ci/src", "mode": "ro"},
        },
    }
    host.answer("GET", "/machines/a", record)
    found = driver_of(host).configuration("a")
    assert found.options == {
        "startup-view": "headless",
        "autostart-delay": "30",
        "time-sync": "on",
        "device-bootorder": "hdd0 cdrom0 net0",
        "videosize": "64",
        "cpu-type": "arm",
    }
    assert found.devices == {"net0": False, "cdrom0": True}
    assert found.folders == {"src": SharedFolder("/Users/ci/src", enabled=False)}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/machines/a/clone", {"id": "", "status": "Failed", "error": "no room left"}),
        ("/machines/a/set", {"operations": [{"group": "cpu", "error": "no room left"}]}),
    ],
)
def test_failures_inside_a_200(host: Any, path: str, body: Any) -> None:
    host.answer("PUT", path, body)
    driver = driver_of(host)
    with pytest.raises(HostError, match="no room left") as caught:
        driver.clone("a", "b") if path.endswith("clone") else driver.configure("a", 1, 1)
    assert caught.value.kind is ErrorKind.REJECTED
    assert not caught.value.outcome_unknown


def test_verbs(host: Any) -> None:
    host.answer("PUT", "/machines/a/start", {"id": "a", "operation": "Start", "status": "Success"})
    host.answer("PUT", "/machines/a/stop", {"id": "a", "operation": "Stop", "status": "Success"})
    driver = driver_of(host)
    driver.start("a")
    driver.stop("a", force=False)
    driver.stop("a", force=True)
    assert host.paths()[1:] == [
        "PUT /api/machines/a/start",
        "PUT /api/machines/a/stop",
        "PUT /api/machines/a/stop?force=true",
    ]


def test_delete_takes_an_empty_answer(host: Any, reply: Any) -> None:
    host.route("DELETE", "/machines/a", reply(202, content=b"", content_type=""))
    driver_of(host).delete("a", force=True)
    assert host.paths()[-1] == "DELETE /api/machines/a?force=true"


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({"given_path_size": 5120.4}, 5121),
        ({"given_path_size": 0}, 0),
        ({"parallels_home_size": 9}, None),
        ({"given_path_size": None}, None),
    ],
)
def test_a_folder_is_measured_as_its_account(host: Any, body: Any, size: int | None) -> None:
    host.answer("POST", "/v1/config/diskspace", body)
    assert driver_of(host).folder_size("/Users/ci/Parallels/a.pvm", "ci") == size
    assert host.seen[-1].body == {"folder_path": "/Users/ci/Parallels/a.pvm", "username": "ci"}


@pytest.mark.parametrize("size", [-1, "5", [5], True])
def test_a_size_that_is_none_is_refused(host: Any, size: Any) -> None:
    host.answer("POST", "/v1/config/diskspace", {"given_path_size": size})
    with pytest.raises(HostError) as caught:
        driver_of(host).folder_size("/a", "")
    assert caught.value.kind is ErrorKind.BAD_ANSWER


def test_a_folder_is_registered_under_a_name(host: Any, vm_json: dict[str, Any]) -> None:
    host.answer("POST", "/machines/register", vm_json)
    assert driver_of(host).register("/Users/ci/a.pvm", "a", False, "ci").id == vm_json["ID"]
    assert host.seen[-1].body == {
        "path": "/Users/ci/a.pvm",
        "machine_name": "a",
        "owner": "ci",
        "regenerate_source_uuid": False,
    }


@pytest.mark.parametrize(
    ("home", "read"),
    [
        ("/Users/ci/Parallels/a.pvm/", "/Users/ci/Parallels/a.pvm"),
        ("/Users/ci/a.macvm", "/Users/ci/a.macvm"),
        ("relative/a.pvm", ""),
        ("/" + "ä" * 600, ""),
        ("/a\x00b", ""),
        (None, ""),
    ],
)
def test_the_folder_of_a_vm(host: Any, vm_json: dict[str, Any], home: Any, read: str) -> None:
    host.answer("GET", "/machines/a", vm_json | {"Home": home})
    assert driver_of(host).read_vm("a").home == read


def test_state_verbs_fall_back_to_get_and_remember_it(host: Any, reply: Any) -> None:
    host.route("PUT", "/machines/a/start", reply(405, content=b"", content_type=""))
    host.answer("GET", "/machines/a/start", {"id": "a", "operation": "Start", "status": "Success"})
    driver_of(host).start("a")
    driver_of(host).start("a")
    verbs = [path.split()[0] for path in host.paths() if path.endswith("start")]
    assert verbs == ["PUT", "GET", "GET"]
    # the host was brought up to date
    host.answer("PUT", "/machines/a/start", {"id": "a", "operation": "Start", "status": "Success"})
    host.route("GET", "/machines/a/start", reply(405, content=b"", content_type=""))
    driver_of(host).start("a")
    driver_of(host).start("a")
    assert [path.split()[0] for path in host.paths()[-3:]] == ["GET", "PUT", "PUT"]


def test_execute(host: Any) -> None:
    failing = {"exit_code": 65, "error": "exit status 65", "stdout": "a\x00b"}
    host.answer("PUT", "/machines/a/execute", failing)
    result = driver_of(host).execute("a", "false", {"CI": "1"}, timeout_seconds=5)
    assert (result.exit_code, result.stdout, result.stderr) == (65, "a\ufffdb", "exit status 65")
    assert host.seen[-1].body == {"command": "false", "environment_variables": {"CI": "1"}}


def test_jobs(host: Any) -> None:
    job: dict[str, Any] = {"id": "job-9", "owner": "a", "state": "running", "progress": 46}
    host.answer("GET", "/v1/jobs/job-9", job)
    running = driver_of(host).read_job("job-9")
    assert (running.progress, running.is_final, running.vm_id) == (46, False, None)
    job |= {"state": "completed", "progress": 100, "result_record_id": "{vm-1}"}
    host.answer("GET", "/v1/jobs/job-9", job | {"result_record_type": "virtual_machine"})
    done = driver_of(host).read_job("job-9")
    assert done.is_final and done.succeeded and done.vm_id == "{vm-1}"
    error = "pull failed from host=ci@example.com:catalog-pw@https://c;secret_key=s3cr3t"
    host.answer("GET", "/v1/jobs/job-9", job | {"state": "failed", "error": error})
    failed = driver_of(host).read_job("job-9")
    assert failed.is_final and not failed.succeeded
    assert "pull failed" in failed.error
    assert "catalog-pw" not in failed.error and "s3cr3t" not in failed.error


def test_cached_images(host: Any) -> None:
    images = driver_of(host).cached_images()
    assert images is not None
    (image,) = images
    assert (image.catalog_id, image.version, image.architecture) == ("MACOS-XCODE", "16.2", "arm64")
    assert (image.size_mib, image.type, image.last_used_at) == (10240, "macvm", None)
    assert (
        image.cached_at is not None
        and image.cached_at.isoformat() == "2026-09-21T10:00:00.123456+00:00"
    )
    del host.routes["GET", "/v1/cache"]
    assert driver_of(host).cached_images() is None


def test_inventory_by_thread_and_by_loop(host: Any, hardware_json: dict[str, Any]) -> None:
    def without_clock(inventory: Any) -> Any:
        from dataclasses import replace

        return replace(inventory, hardware=replace(inventory.hardware, clock_offset_seconds=None))

    async def poll() -> Any:
        driver = async_driver_of(host)
        try:
            assert await driver.probe() > 0
            return await driver.inventory()
        finally:
            await driver.aclose()

    seen = driver_of(host).inventory()
    assert len(seen.vms) == 1 and seen.images is not None
    assert without_clock(asyncio.run(poll())) == without_clock(seen)
    host.answer("GET", "/v1/config/hardware", hardware_json | {"enabled_modules": ["api", "host"]})
    host.seen.clear()
    assert asyncio.run(poll()).images is None
    assert "GET /api/v1/cache" not in host.paths()
    assert "POST /api/v1/auth/token" not in host.paths()  # the thread's token is used


def test_an_async_driver_survives_its_loop(host: Any) -> None:
    driver = async_driver_of(host)
    assert asyncio.run(driver.probe()) > 0
    assert asyncio.run(driver.probe()) > 0


# Credentials


def test_one_login_for_many_threads(host: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: driver_of(host).list_vms(), range(16)))
    assert host.paths().count("POST /api/v1/auth/token") == 1


def test_a_refused_token_is_renewed_once(host: Any, reply: Any, vm_json: dict[str, Any]) -> None:
    valid = "second"

    def login(seen: Any) -> Any:
        return reply(200, {"token": valid, "expires_at": time.time() + 900})

    def machines(seen: Any) -> Any:
        if seen.headers["authorization"] == f"Bearer {valid}":
            return reply(200, [vm_json])
        return reply(401, {"error": "unauthorized_client"})

    host.route("GET", "/machines", machines)
    driver_of(host).hardware()  # with the first token
    host.route("POST", "/v1/auth/token", login)
    assert len(driver_of(host).list_vms()) == 1
    assert host.paths()[-3:] == [
        "GET /api/machines",
        "POST /api/v1/auth/token",
        "GET /api/machines",
    ]
    host.answer("GET", "/machines", {"error": "unauthorized_client"}, 401)
    host.seen.clear()
    with pytest.raises(HostError) as caught:
        driver_of(host).list_vms()
    assert caught.value.kind is ErrorKind.CREDENTIALS
    assert host.paths().count("GET /api/machines") == 2


def test_another_password_is_another_login(host: Any) -> None:
    driver_of(host).list_vms()
    driver_of(host, username="root@localhost", password="pass-word-2").list_vms()
    assert [s.body["password"] for s in host.seen if s.body] == ["pass-word-1", "pass-word-2"]


def test_the_end_of_a_token_is_read_on_the_clock_of_the_host(make_host: Any, reply: Any) -> None:
    import json

    host = make_host()
    host.answer("GET", "/machines", [])
    behind = time.time() - 36000
    content = json.dumps({"token": "t", "expires_at": int(behind) + 900}).encode()
    date = formatdate(behind, usegmt=True).encode()
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %s\r\n\r\n%s"
    host.route("POST", "/v1/auth/token", reply(raw=raw % (date, content)))
    driver_of(host).list_vms()
    driver_of(host).list_vms()
    assert host.paths().count("POST /api/v1/auth/token") == 1


@pytest.mark.parametrize("api_key", ["ci key:s3cret", base64.b64encode(b"ci key:s3cret").decode()])
def test_api_keys(host: Any, api_key: str) -> None:
    driver_of(host, api_key=api_key).list_vms()
    assert host.paths() == ["GET /api/machines"]
    assert base64.b64decode(host.seen[0].headers["x-api-key"]) == b"ci key:s3cret"
    assert "authorization" not in host.seen[0].headers


def test_a_job_is_read_with_a_token_when_the_api_key_is_refused(host: Any, reply: Any) -> None:
    """Hosts let API keys create jobs but not read them (contract 2.6)."""

    def job(seen: Any) -> Any:
        if "authorization" in seen.headers:
            assert "x-api-key" not in seen.headers
            return reply(200, {"id": "j", "state": "running", "progress": 5})
        return reply(401, {"error": "unauthorized_client"})

    host.route("GET", "/v1/jobs/j", job)
    assert driver_of(host, api_key="ci:s3cret").read_job("j").progress == 5
    assert host.seen[1].body == {"api_key": base64.b64encode(b"ci:s3cret").decode()}


@pytest.mark.parametrize(
    "changes", [{"api_key": "no colon"}, {"api_key": "ünï"}, {"username": "", "password": "x"}]
)
def test_unusable_credentials_are_not_sent(host: Any, changes: dict[str, str]) -> None:
    with pytest.raises(HostError) as caught:
        driver_of(host, **changes).list_vms()
    assert caught.value.kind is ErrorKind.CREDENTIALS
    assert host.seen == []


def test_cookies_of_a_host_are_not_kept(host: Any, reply: Any) -> None:
    host.route(
        "GET", "/health/probe", reply(200, {"status": "OK"}, headers={"Set-Cookie": "a=b; Path=/"})
    )
    driver_of(host).probe()
    driver_of(host).probe()
    assert "cookie" not in host.seen[-1].headers


def test_limits_are_frozen_and_named() -> None:
    limits = Limits()
    assert (limits.probe_seconds, limits.read_seconds, limits.list_seconds) == (3, 10, 20)
    assert limits.create_sync_seconds == 5 * 3600
    with pytest.raises(AttributeError):
        limits.probe_seconds = 1  # type: ignore[misc]


def test_what_is_kept_of_a_log_is_its_end(host: Any, reply: Any) -> None:
    """However long it is: memory holds a bounded part of it."""
    line = b"x" * 99 + b"\n"

    def long_log(ended: Any) -> Any:
        yield from (line * 1000 for _ in range(50))
        yield b"the end, with token=hidden-secret and pass-word-1\n"

    host.route("GET", "/v1/logs", reply(content_type="text/plain", chunks=long_log))
    limits = Limits(max_answer_bytes=1024 * 1024, max_log_bytes=1000)
    lines = open_driver("parallels", host.connection(), limits=limits).logs(50)
    assert lines[-1].startswith("the end, with token=")
    assert "hidden-secret" not in lines[-1]
    assert "pass-word-1" not in lines[-1]
    assert sum(map(len, lines)) <= 1000


def test_the_cache_and_the_list_of_a_host(host: Any, reply: Any) -> None:
    host.route("DELETE", "/v1/cache/UBUNTU/24.04", reply(status=202, content=b""))
    host.route("DELETE", "/v1/cache", reply(status=202, content=b""))
    host.answer("POST", "/machines/%7Bvm-1%7D/unregister", {"success": False, "error": "it runs"})
    driver = driver_of(host)
    driver.delete_cached("UBUNTU", "24.04")
    driver.delete_cached()
    with pytest.raises(HostError, match="it runs"):
        driver.unregister("{vm-1}")
    assert host.seen[-1].body == {"id": "{vm-1}", "clean_source_uuid": False}
    assert driver.reverse_proxy() is None  # the host has no such module
