from __future__ import annotations

from django.apps import AppConfig


class HostsConfig(AppConfig):
    """Hosts, their capacity and its charge, polling, raw inventory."""

    name = "hosts"

    def ready(self) -> None:
        from hosts import bulk, holds, registering
        from hosts.verbs import InventoryHandler
        from jobs import handlers

        handlers.register("host.inventory", InventoryHandler())
        for kind, handler in registering.HANDLERS.items():
            handlers.register(kind, handler)
        handlers.register_at_once(
            "host.remove", *(verb for verbs in holds.VERBS.values() for verb in verbs[:2])
        )
        bulk.register()
