from __future__ import annotations

from compat.identity import keys, preferences, roles, tokens, users
from compat.wire.endpoints import route

urlpatterns = [
    route("auth/token", tokens.Token, "token"),
    route("auth/token/validate", tokens.Validate, "token-validate"),
    route("auth/users", users.Users, "users"),
    route("auth/users/<str:id>", users.OneUser, "user"),
    route("auth/users/<str:id>/roles", users.UserRoles, "user-roles"),
    route("auth/users/<str:id>/roles/<str:role>", users.OneUserRole, "user-role"),
    route("auth/users/<str:id>/claims", users.UserClaims, "user-claims"),
    route("auth/users/<str:id>/claims/<str:claim>", users.OneUserClaim, "user-claim"),
    route("auth/roles", roles.Roles, "roles"),
    route("auth/roles/<str:id>", roles.OneRole, "role"),
    route("auth/roles/<str:id>/claims", roles.RoleClaims, "role-claims"),
    route("auth/roles/<str:id>/claims/<str:claim>", roles.OneRoleClaim, "role-claim"),
    route("auth/claims", roles.Claims, "claims"),
    route("auth/claims/grouped", roles.GroupedClaims, "claims-grouped"),
    route("auth/claims/<str:id>", roles.OneClaim, "claim"),
    route("auth/api_keys", keys.Keys, "keys"),
    route("auth/api_keys/<str:id>", keys.OneKey, "key"),
    route("auth/api_keys/<str:id>/revoke", keys.RevokeKey, "key-revoke"),
    route("user/configs", preferences.Preferences, "preferences"),
    route("user/configs/<str:id>", preferences.OnePreference, "preference"),
]
