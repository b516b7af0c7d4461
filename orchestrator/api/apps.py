from __future__ import annotations

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """What every endpoint shares: errors, pages, idempotency, the schema. Imports no room."""

    name = "orchestrator.api"
    label = "api"
