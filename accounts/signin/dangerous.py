"""What needs a fresh proof of who asks, in one place: names of routes and their methods.

That is: what makes credentials, what changes what people may do or how they sign in, and what
destroys much at once. It holds for sessions, on pages and over the API; tokens are made for
machines, which nobody can leave open on a desk. allauth asks by itself, with the same limit,
before it changes a second factor; but not those who have neither password nor factor, so its pages
that add one are here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.http import HttpRequest

PAGES = frozenset(
    {
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "console:token-create",
        "accounts:user-create",
        "accounts:user-roles",
        "accounts:user-active",
        "accounts:user-sign-out",
        "accounts:user-reset-password",
        "accounts:user-remove-factors",
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
        ("POST", "api:users"),
        ("PATCH", "api:user"),
        ("POST", "api:user-sign-out"),
        ("POST", "api:user-reset-password"),
        ("POST", "api:user-remove-factors"),
        ("POST", "api:service-accounts"),
        ("PATCH", "api:service-account"),
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
BATCHES = ("jobs:new-batch", "api:batches")  # one verb over many: only deleting is dangerous
DESTROYING = "vm.delete"


def is_dangerous(request: HttpRequest) -> bool:
    """Return whether the request is for something on the list. A GET shows the form for it."""
    match = request.resolver_match
    name = match.view_name if match else ""
    if name in BATCHES:
        return request.method == "POST" and _verb(request) == DESTROYING
    return name in PAGES or (request.method, name) in API


def _verb(request: HttpRequest) -> str:
    if request.content_type != "application/json":
        return str(request.POST.get("verb", ""))
    try:
        body = json.loads(request.body)
    except ValueError:
        return ""
    return str(body.get("verb", "")) if isinstance(body, dict) else ""
