"""What needs a fresh proof of who asks, in one place: names of routes and their methods.

That is: what makes credentials, what changes what people may do or how they sign in, and what
destroys much at once. It holds for sessions, on pages and over the API; tokens are made for
machines, which nobody can leave open on a desk. allauth asks by itself, with the same limit,
before it changes a second factor; but not those who have neither password nor factor, so its pages
that add one are here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http import HttpRequest

PAGES = frozenset(
    {
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "console:token-create",
        "console:token-change",
        "accounts:user-create",
        "accounts:user-roles",
        "accounts:user-active",
        "accounts:user-sign-out",
        "accounts:user-reset-password",
        "accounts:user-remove-factors",
        "accounts:service-account-create",
        "accounts:delete-service",
        "accounts:token-rotate",
        "accounts:invite",
        "accounts:invitation-resend",
        "accounts:role-create",
        "accounts:change-role",
        "accounts:delete-role",
        "accounts:role-second-factor",
        "accounts:webhook-create",
        "hosts:connection",
        "hosts:remove",
        "catalog:new-source",
        "catalog:revoke",
        "vms:revoke-template",
    }
)
API = frozenset(
    {
        ("POST", "api:tokens"),
        ("PATCH", "api:token"),
        ("POST", "api:token-rotate"),
        ("POST", "api:users"),
        ("PATCH", "api:user"),
        ("POST", "api:user-sign-out"),
        ("POST", "api:user-reset-password"),
        ("POST", "api:user-remove-factors"),
        ("POST", "api:service-accounts"),
        ("PATCH", "api:service-account"),
        ("DELETE", "api:service-account"),
        ("POST", "api:invitations"),
        ("POST", "api:invitation-resend"),
        ("POST", "api:roles"),
        ("PATCH", "api:role"),
        ("DELETE", "api:role"),
        ("POST", "api:webhooks"),
        ("DELETE", "api:host"),
        ("POST", "api:sources"),
        ("POST", "api:image-revoke"),
        ("POST", "api:template-revoke"),
    }
)
CREDENTIALS = {"username", "password", "api_key", "tls_fingerprint"}


def _deletes(body: Mapping[str, Any]) -> bool:
    return body.get("verb") == "vm.delete"


# Dangerous only with some bodies: most of what these do is everyday work.
BY_BODY: dict[tuple[str, str], Callable[[Mapping[str, Any]], bool]] = {
    ("POST", "jobs:new-batch"): _deletes,
    ("POST", "api:batches"): _deletes,
    ("PATCH", "api:host"): lambda body: bool(CREDENTIALS & body.keys()),
}


def is_dangerous(request: HttpRequest) -> bool:
    """Return whether the request is for something on the list. A GET shows the form for it."""
    match = request.resolver_match
    asked = (request.method or "", match.view_name if match else "")
    if by_body := BY_BODY.get(asked):
        return by_body(_body(request))
    return asked[1] in PAGES or asked in API


def _body(request: HttpRequest) -> Mapping[str, Any]:
    if request.content_type != "application/json":
        return request.POST
    try:
        body = json.loads(request.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
