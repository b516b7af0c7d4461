"""Routes below `/api/v2/`. `tokens/` itself is in `vms.api`, which knows templates by name."""

from __future__ import annotations

from accounts.api import leaks, openapi, views, webhooks
from orchestrator.api.routing import route

__all__ = ["openapi", "urlpatterns"]  # the schema finds its extensions once they are loaded

urlpatterns = [
    route("me/", views.Me, "me"),
    route("roles/", views.RoleList, "roles"),
    route("roles/<uuid:id>/", views.RoleItem, "role"),
    route("users/", views.UserList, "users"),
    route("users/<uuid:id>/", views.UserItem, "user"),
    route("users/<uuid:id>/rights/", views.UserRights, "user-rights"),
    route("users/<uuid:id>/leaked-tokens/", leaks.LeakedTokens, "user-leaked-tokens"),
    route(
        "users/<uuid:id>/leaked-tokens/report/",
        leaks.LeakedTokensReport,
        "user-leaked-tokens-report",
    ),
    route("service-accounts/", views.ServiceAccountList, "service-accounts"),
    route("service-accounts/<uuid:id>/", views.ServiceAccountItem, "service-account"),
    route("tokens/<uuid:id>/", views.TokenItem, "token"),
    route("tokens/<uuid:id>/revoke/", views.TokenRevoke, "token-revoke"),
    route("tokens/<uuid:id>/rotate/", views.TokenRotate, "token-rotate"),
    route("tokens/<uuid:id>/end-overlap/", views.TokenEndOverlap, "token-end-overlap"),
    route("webhooks/", webhooks.WebhookList, "webhooks"),
    route("webhooks/<uuid:id>/", webhooks.WebhookItem, "webhook"),
    route("webhooks/<uuid:id>/test/", webhooks.WebhookTest, "webhook-test"),
    route("webhooks/<uuid:id>/deliveries/", webhooks.DeliveryList, "webhook-deliveries"),
    route(
        "webhooks/<uuid:id>/deliveries/<uuid:delivery>/redeliver/",
        webhooks.Redeliver,
        "webhook-redeliver",
    ),
    route("audit/", views.AuditList, "audit"),
    route("audit/export/", views.AuditExport, "audit-export"),
]
