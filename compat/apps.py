from __future__ import annotations

from django.apps import AppConfig


class CompatConfig(AppConfig):
    """The Parallels DevOps API: a thin translation onto the rooms' domain functions."""

    name = "compat"
