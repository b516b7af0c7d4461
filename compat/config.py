"""What tools ask about “the host” that they talk to: here the pool as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.utils.crypto import salted_hmac

from compat.wire.answers import answer, compact
from compat.wire.endpoints import Endpoint, route
from hosts import totals

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from hosts.totals import Totals

CONTRACT_VERSION = "1.0.5"  # of the original, whose API this is
# The console shows the pages of these.
MODULES = ["api", "orchestrator", "host", "catalog", "catalog_manager", "cache", "reverse_proxy"]


def resources(of: Totals, disk: str) -> dict[str, Any]:
    """Return the five items of what is there and who has it. Memory and disk in MB.

    `disk` is the key of the disk, which the contract calls `disk_count` or `disk_size`.
    """

    def item(cpus: int, memory_mib: int, disk_gib: int) -> dict[str, Any]:
        return {"logical_cpu_count": cpus, "memory_size": memory_mib, disk: disk_gib * 1024}

    names = ("cpus", "memory_mib", "disk_gib")
    return {
        "system_reserved": item(*(of.part(name, "reserved") for name in names)),
        "total": item(*(of.part(name, "total") for name in names)),
        "total_available": item(*(of.free(name) for name in names)),
        "total_in_use": item(*(of.used(name) for name in names)),
        "total_reserved": item(0, 0, 0),  # a VM that is off is counted as in use: it may start
    }


class Hardware(Endpoint):
    def get(self, request: HttpRequest) -> HttpResponse:
        pool = totals.whole(totals.by_architecture(self.actor))
        told = {
            "cpu_type": pool.architecture,
            "cpu_brand": pool.cpu_brand,
            "devops_version": CONTRACT_VERSION,
            "os_name": pool.os_name,
            "os_version": pool.os_version,
            "parallels_desktop_version": pool.desktop_version,
            "external_ip_address": urlsplit(settings.PUBLIC_URL).hostname,
        }
        return answer(
            {
                **compact(told),
                "parallels_desktop_licensed": pool.hosts > 0,
                "is_reverse_proxy_enabled": False,
                "is_log_streaming_enabled": False,
                **resources(pool, "disk_count"),
                "enabled_modules": MODULES,
            }
        )


class License(Endpoint):
    """The GitHub Action reads `uuid` and `serial` in host mode, for its telemetry.

    Licences belong to the hosts; nothing of theirs is told.
    """

    def get(self, request: HttpRequest) -> HttpResponse:
        pool = totals.whole(totals.by_architecture(self.actor))
        return answer(
            {
                "status": "ACTIVE",
                "serial": "",
                "expiration": "",
                "main_period_ends_at": "",
                "grace_period_ends_at": "",
                "cpu_total": pool.part("cpus", "total"),
                "max_memory": pool.part("memory_mib", "total"),
                "edition": "business",
                "is_trial": "no",
                "is_volume": "yes",
                "deferred_activation": "no",
                "uuid": str(_installation()),
            }
        )


def _installation() -> UUID:
    """Return an id of this installation that tells nothing else."""
    return UUID(bytes=salted_hmac("compat.config", settings.SECRET_KEY).digest()[:16], version=4)


urlpatterns = [
    route("config/hardware", Hardware, "hardware"),
    route("config/parallels-desktop/license", License, "license"),
]
