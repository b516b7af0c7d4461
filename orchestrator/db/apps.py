from __future__ import annotations

from django.apps import AppConfig


class DbConfig(AppConfig):
    """What every room's tables share: ids, the database's clock, encrypted fields, row leases."""

    name = "orchestrator.db"
    label = "db"
