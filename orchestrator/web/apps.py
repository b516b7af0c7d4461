from __future__ import annotations

from django.apps import AppConfig


class WebConfig(AppConfig):
    """What web requests share: held calls, the browser's stream, health."""

    name = "orchestrator.web"
    label = "web"
