"""Routes of `/api/v2/` that belong to no room.

`orchestrator.urls` puts them behind the rooms' own lists: the last one answers for every path that
is none.
"""

from __future__ import annotations

from django.urls import path, re_path

from orchestrator.api.pages import AnythingElse, SchemaView

urlpatterns = [
    path("openapi.json", SchemaView.as_view(), name="openapi"),
    # Any characters: a newline is none to `<path:…>`, and would get a page.
    re_path(r"\A[\s\S]*\Z", AnythingElse.as_view(), name="anything-else"),
]
