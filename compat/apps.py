from __future__ import annotations

from django.apps import AppConfig


class CompatConfig(AppConfig):
    """The Parallels DevOps API: a thin translation onto the rooms' domain functions."""

    name = "compat"

    def ready(self) -> None:
        from accounts.claims import claims_with
        from catalog import requirements

        # Images may require claims by their names on the wire.
        requirements.register(claims_with)
