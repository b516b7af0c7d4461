from __future__ import annotations

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """What happened: the event feed and the browser's stream."""

    name = "events"
