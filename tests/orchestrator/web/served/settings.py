"""The product's settings with a few fake addresses, for tests that start the real front."""

from __future__ import annotations

from orchestrator.settings import *  # noqa: F403
from orchestrator.settings import INSTALLED_APPS

ROOT_URLCONF = "tests.orchestrator.web.served.urls"
MIGRATION_MODULES = {name.rsplit(".", 1)[-1]: None for name in INSTALLED_APPS}
SESSION_ENGINE = "django.contrib.sessions.backends.db"
