"""What a host looks like in this API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from compat.config import MODULES, resources
from compat.wire.answers import compact
from hosts.models import RESOURCES, Health, HostHold
from hosts.totals import PARTS, Totals

if TYPE_CHECKING:
    from hosts.models import Host


def amounts(host: Host) -> Totals:
    """Return the capacity of one host, as sums over several are told."""
    return Totals(
        host.status.architecture,
        1,
        amounts={
            (resource, part): getattr(host.capacity, f"{resource}_{part}")
            for resource in RESOURCES
            for part in PARTS
        },
    )


def host_record(host: Host) -> dict[str, Any]:
    """Return the record of a host that comes `for_page()`. Of its credentials it tells nothing."""
    status = host.status
    holds = {hold.kind for hold in host.live_holds}  # type: ignore[attr-defined]
    state = "healthy" if status.health == Health.HEALTHY else "unhealthy"
    watch = getattr(host, "watch", None)
    told = {
        "os_version": status.os_version,
        "os_name": status.os_name,
        "external_ip_address": urlsplit(host.url).hostname,
        "devops_version": status.devops_version,
        "description": host.name,
        "tags": host.tags,
        "state": "" if status.health == Health.NEW else state,
        "parallels_desktop_version": status.desktop_version,
    }
    detailed = resources(amounts(host), "disk_size")
    return {
        "id": str(host.pk),
        "enabled": HostHold.Kind.DISABLE not in holds,
        "host": host.url,
        "architecture": status.architecture,
        "cpu_model": status.cpu_brand,
        **compact(told),
        "parallels_desktop_licensed": bool(status.desktop_version),
        "has_websocket_events": bool(watch and watch.is_live),
        "is_reverse_proxy_enabled": False,
        "is_log_streaming_enabled": True,
        "enabled_modules": ["api", "host", "cache"],
        "resources": detailed["total"],
        "detailed_resources": detailed,
    }


def hardware_record(host: Host) -> dict[str, Any]:
    """Return the SystemUsageResponse of a host, as it was observed last."""
    status = host.status
    told = {
        "cpu_brand": status.cpu_brand,
        "devops_version": status.devops_version,
        "os_name": status.os_name,
        "os_version": status.os_version,
        "parallels_desktop_version": status.desktop_version,
        "external_ip_address": urlsplit(host.url).hostname,
    }
    return {
        "cpu_type": status.architecture,
        **compact(told),
        "parallels_desktop_licensed": bool(status.desktop_version),
        "is_reverse_proxy_enabled": False,
        "is_log_streaming_enabled": True,
        **resources(amounts(host), "disk_count"),
        "enabled_modules": [name for name in MODULES if name in ("api", "host", "cache")],
    }
