"""What the host-shaped questions tell about the pool, and what strangers are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from compat.config import MODULES
from hosts.models import Host, HostCapacity, HostHold, HostStatus
from tests.contract.conftest import Tool, is_error, is_unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def hosts(db: None) -> list[Host]:
    """Two arm64 hosts and one x86_64 that take VMs, and one on hold."""
    made = []
    for number, architecture in enumerate(["arm64", "arm64", "x86_64", "arm64"]):
        host = Host.objects.create(name=f"mac-{number}", url=f"http://10.0.0.{number}:3080/api")
        HostStatus.objects.create(
            host=host,
            health="healthy",
            architecture=architecture,
            cpu_brand="Apple M2 Pro" if architecture == "arm64" else "Intel Xeon",
            os_name="macOS",
            os_version="15.5",
            desktop_version="20.4.0",
        )
        HostCapacity.objects.create(
            host=host,
            cpus_total=12,
            cpus_reserved=1,
            cpus_foreign=2,
            cpus_charged=4,
            memory_mib_total=32768,
            memory_mib_reserved=2048,
            disk_gib_total=400,
            disk_gib_charged=64,
        )
        made.append(host)
    HostHold.objects.create(host=made[3], kind="cordon", reason="test")
    return made


def test_hardware_is_the_sum_of_what_takes_vms(
    hosts: list[Host],
    admin: Tool,
    developer: Tool,
    charlie: User,
    tool_of: Callable[..., Tool],
    settings: Any,
) -> None:
    settings.PUBLIC_URL = "https://pool.example:8443"
    response = admin("get", "/config/hardware")
    assert response.status_code == 200
    told = response.json()
    assert told == {
        "cpu_type": "arm64",
        "cpu_brand": "Apple M2 Pro",
        "devops_version": "1.0.5",
        "os_name": "macOS",
        "os_version": "15.5",
        "parallels_desktop_version": "20.4.0",
        "parallels_desktop_licensed": True,
        "external_ip_address": "pool.example",
        "is_reverse_proxy_enabled": False,
        "is_log_streaming_enabled": False,
        "system_reserved": {"logical_cpu_count": 3, "memory_size": 6144, "disk_count": 0},
        "total": {"logical_cpu_count": 36, "memory_size": 98304, "disk_count": 1228800},
        "total_available": {"logical_cpu_count": 15, "memory_size": 92160, "disk_count": 1032192},
        "total_in_use": {"logical_cpu_count": 18, "memory_size": 0, "disk_count": 196608},
        "total_reserved": {"logical_cpu_count": 0, "memory_size": 0, "disk_count": 0},
        "enabled_modules": MODULES,
    }
    assert developer("get", "/config/hardware").json() == told  # it names no host
    nobody = tool_of(charlie)("get", "/config/hardware").json()
    assert nobody["total"] == {"logical_cpu_count": 0, "memory_size": 0, "disk_count": 0}
    assert is_unauthorized(Tool()("get", "/config/hardware"))


def test_an_empty_pool_has_all_five_items(admin: Tool) -> None:
    """The original crashes where one is missing."""
    told = admin("get", "/config/hardware").json()
    for name in ("system_reserved", "total", "total_available", "total_in_use", "total_reserved"):
        assert told[name]["logical_cpu_count"] == 0


def test_the_licence_is_told_to_who_is_known_and_shows_no_serial(
    hosts: list[Host], admin: Tool, stranger: Tool
) -> None:
    response = admin("get", "/api/v1//config/parallels-desktop/license")
    assert response.status_code == 200
    told = response.json()
    assert told.keys() == {
        *("status", "serial", "expiration", "main_period_ends_at", "grace_period_ends_at"),
        *("cpu_total", "max_memory", "edition", "is_trial", "is_volume", "deferred_activation"),
        "uuid",
    }
    assert (told["status"], told["cpu_total"], told["serial"]) == ("ACTIVE", 36, "")
    again = admin("get", "/config/parallels-desktop/license").json()
    assert again["uuid"] == told["uuid"]
    assert is_unauthorized(stranger("get", "/config/parallels-desktop/license"))


def test_health_is_for_strangers_and_tells_nothing_of_the_inside(
    stranger: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/api/health/probe", "/api/v1/health/probe", "/api//health/probe/"):
        probe = stranger("get", path)
        assert (probe.status_code, probe.content) == (200, b'{"status": "OK"}')
    root = stranger("get", "/api/")
    assert root.status_code == 200
    assert root.json().keys() == {"id", "timestamp", "message"}

    full = stranger("get", "/api/v1//health/system?full=true")
    assert full.status_code == 200
    services = {one["name"]: one["healthy"] for one in full.json()["services"]}
    assert services["database"] is True
    assert all(one.keys() == {"name", "healthy"} for one in full.json()["services"])
    assert "services" not in stranger("get", "/health/system").json()

    from django.db import OperationalError

    def away() -> None:
        raise OperationalError("could not connect to server 10.1.2.3 as user secret")

    monkeypatch.setattr(connection, "ensure_connection", away)
    ill = stranger("get", "/health/system?full=true")
    assert ill.status_code == 200
    assert ill.json()["healthy"] is False
    assert b"secret" not in ill.content


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/orchestrator/hosts/deploy"),
        ("post", "/orchestrator/hosts/deploy/async"),
        ("get", "/templates/packer"),
        ("put", "/templates/packer/x"),
        ("post", "/config/tools/install"),
        ("post", "/config/tools/uninstall"),
        ("post", "/config/tools/restart"),
        ("post", "/config/diskspace"),
        ("post", "/ssh/execute"),
        ("post", "/performance/db"),
        ("post", "/jobs/debug"),
        ("get", "/api/shutdown"),
        ("post", "/api/shutdown"),
    ],
)
def test_what_is_not_offered_is_refused_with_a_sentence(
    admin: Tool, stranger: Tool, method: str, path: str
) -> None:
    refused = admin(method, path, None if method == "get" else {"command": "id"})
    assert is_error(refused, 501)
    assert len(refused.json()["message"]) > 30
    assert is_unauthorized(stranger(method, path))
