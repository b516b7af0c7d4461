from __future__ import annotations

from django.urls import path

from orchestrator.console import service_accounts, tokens, views

app_name = "console"
urlpatterns = [
    path("", views.overview, name="overview"),
    path("theme/", views.theme, name="theme"),
    path("service-accounts/", service_accounts.listing, name="service-accounts"),
    path("service-accounts/<uuid:id>/", service_accounts.page, name="service-account"),
    path("tokens/new/", tokens.create, name="token-create"),
    path("tokens/<uuid:id>/change/", tokens.change, name="token-change"),
]
