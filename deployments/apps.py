from __future__ import annotations

from django.apps import AppConfig


class DeploymentsConfig(AppConfig):
    """Packages rolled out over the fleet by plan."""

    name = "deployments"

    def ready(self) -> None:
        from deployments.running import wiring

        wiring.register()
