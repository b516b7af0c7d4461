from __future__ import annotations

from django.urls import path

from accounts import role_views, service_views, views, webhook_views

app_name = "accounts"
urlpatterns = [
    path("account/", views.account, name="account"),
    path("tokens/", views.token_list, name="tokens"),
    path("tokens/<uuid:id>/", views.token_page, name="token"),
    path("tokens/<uuid:id>/revoke/", views.token_revoke, name="token-revoke"),
    path("tokens/<uuid:id>/rotate/", views.token_rotate, name="token-rotate"),
    path("tokens/<uuid:id>/end-overlap/", views.token_end_overlap, name="token-end-overlap"),
    path("users/", views.user_list, name="users"),
    path("users/new/", views.user_create, name="user-create"),
    path("users/<uuid:id>/", views.user_page, name="user"),
    path("users/<uuid:id>/roles/", views.user_roles, name="user-roles"),
    path("users/<uuid:id>/active/", views.user_active, name="user-active"),
    path("users/<uuid:id>/leaked-tokens/", service_views.leaked, name="user-leaked-tokens"),
    path(
        "users/<uuid:id>/leaked-tokens/report/",
        service_views.leaked_report,
        name="user-leaked-tokens-report",
    ),
    path("service-accounts/new/", service_views.create, name="service-account-create"),
    path("service-accounts/<uuid:id>/describe/", service_views.describe, name="describe-service"),
    path("service-accounts/<uuid:id>/delete/", service_views.delete, name="delete-service"),
    path("roles/", views.role_list, name="roles"),
    path("roles/new/", role_views.new, name="role-create"),
    path("roles/<uuid:id>/change/", role_views.change, name="change-role"),
    path("roles/<uuid:id>/delete/", role_views.delete, name="delete-role"),
    path("roles/<uuid:id>/weight/", views.weigh_role, name="weigh-role"),
    path("audit/", views.audit_list, name="audit"),
    path("audit/export/", views.audit_export, name="audit-export"),
    path("webhooks/", webhook_views.webhook_list, name="webhooks"),
    path("webhooks/new/", webhook_views.webhook_create, name="webhook-create"),
    path("webhooks/<uuid:id>/", webhook_views.webhook_page, name="webhook"),
    path("webhooks/<uuid:id>/test/", webhook_views.webhook_test, name="webhook-test"),
    path("webhooks/<uuid:id>/pause/", webhook_views.webhook_pause, name="webhook-pause"),
    path("webhooks/<uuid:id>/delete/", webhook_views.webhook_delete, name="webhook-delete"),
    path(
        "webhooks/<uuid:id>/deliveries/<uuid:delivery>/",
        webhook_views.redeliver,
        name="webhook-redeliver",
    ),
]
