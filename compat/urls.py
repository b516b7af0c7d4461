"""Every route of the API, relative to `/api/v1`. `compat.wire.paths` brings all spellings there."""

from __future__ import annotations

from django.urls import include, path, re_path

from compat import config, health, jobs, refused
from compat.catalog import urls as catalog
from compat.events import urls as events
from compat.hosts import urls as hosts
from compat.identity import urls as identity
from compat.machines import urls as machines
from compat.wire.endpoints import Nothing

app_name = "compat"

urlpatterns = [
    path("", health.Root.as_view(), name="root"),
    path(
        "/",
        include(
            [
                *health.urlpatterns,
                *config.urlpatterns,
                *identity.urlpatterns,
                *catalog.urlpatterns,
                *refused.urlpatterns,
                *jobs.urlpatterns,
                *events.urlpatterns,
                *hosts.urlpatterns,
                *machines.urlpatterns,
            ]
        ),
    ),
    # Any characters: a newline is none to `<path:…>`.
    re_path(r"\A[\s\S]*\Z", Nothing.as_view(), name="nothing"),
]
