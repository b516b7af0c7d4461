"""Routes below `/api/v2/`. `tokens/` and `tokens/<id>/` are in `vms.api`, which knows templates."""

from __future__ import annotations

from accounts.api import leaks, openapi, signin, tokens, views, webhooks
from orchestrator.api.routing import route

__all__ = ["openapi", "urlpatterns"]  # the schema finds its extensions once they are loaded

urlpatterns = [
    route("me/", views.Me, "me"),
    route("roles/", views.RoleList, "roles"),
    route("roles/<uuid:id>/", views.RoleItem, "role"),
    route("roles/<uuid:id>/impact/", views.RoleImpact, "role-impact"),
    route("users/", views.UserList, "users"),
    route("users/<uuid:id>/", views.UserItem, "user"),
    route("users/<uuid:id>/rights/", views.UserRights, "user-rights"),
    route("users/<uuid:id>/leaked-tokens/", leaks.LeakedTokens, "user-leaked-tokens"),
    route(
        "users/<uuid:id>/leaked-tokens/report/",
        leaks.LeakedTokensReport,
        "user-leaked-tokens-report",
    ),
    route("users/<uuid:id>/impact/", views.UserImpact, "user-impact"),
    route("users/<uuid:id>/sign-in/", signin.SignIn, "user-sign-in"),
    route("users/<uuid:id>/sessions/", signin.SessionList, "user-sessions"),
    route("users/<uuid:id>/sessions/<uuid:session>/end/", signin.SessionEnd, "user-session-end"),
    route("users/<uuid:id>/sign-out/", signin.SignOut, "user-sign-out"),
    route("users/<uuid:id>/unlock/", signin.Unlock, "user-unlock"),
    route("users/<uuid:id>/remove-factors/", signin.RemoveFactors, "user-remove-factors"),
    route("users/<uuid:id>/reset-password/", signin.ResetPassword, "user-reset-password"),
    route("invitations/", signin.InvitationList, "invitations"),
    route("invitations/<uuid:id>/", signin.InvitationItem, "invitation"),
    route("invitations/<uuid:id>/resend/", signin.InvitationResend, "invitation-resend"),
    route("invitations/<uuid:id>/revoke/", signin.InvitationRevoke, "invitation-revoke"),
    route("service-accounts/", views.ServiceAccountList, "service-accounts"),
    route("service-accounts/<uuid:id>/", views.ServiceAccountItem, "service-account"),
    route("tokens/<uuid:id>/rights/", tokens.TokenRights, "token-rights"),
    route("tokens/<uuid:id>/revoke/", tokens.TokenRevoke, "token-revoke"),
    route("tokens/<uuid:id>/rotate/", tokens.TokenRotate, "token-rotate"),
    route("tokens/<uuid:id>/end-overlap/", tokens.TokenEndOverlap, "token-end-overlap"),
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
