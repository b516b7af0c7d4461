"""Every route of the API, relative to `/api/v1`. `compat.wire.paths` brings all spellings there."""

from __future__ import annotations

from django.urls import include, path, re_path

import compat.identity.urls
import compat.machines.urls
from compat import config, health, jobs, refused
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
                *jobs.urlpatterns,
                *compat.identity.urls.urlpatterns,
                *compat.machines.urls.urlpatterns,
                *refused.urlpatterns,
            ]
        ),
    ),
    # Any characters: a newline is none to `<path:…>`.
    re_path(r"\A[\s\S]*\Z", Nothing.as_view(), name="nothing"),
]
