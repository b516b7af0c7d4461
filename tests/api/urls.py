"""The product's routes, and the docs page."""

from __future__ import annotations

from django.urls import path

import orchestrator.urls
from orchestrator.api.pages import DocsPage

urlpatterns = [
    path("api/docs/", DocsPage.as_view(), name="api-docs"),
    *orchestrator.urls.urlpatterns,
]
