from __future__ import annotations

from django.urls import path

from orchestrator.console import views

app_name = "console"
urlpatterns = [
    path("", views.overview, name="overview"),
    path("theme/", views.theme, name="theme"),
    path("tokens/new/", views.token_create, name="token-create"),
]
