"""What the pages of signing in ask."""

from __future__ import annotations

from django import template
from django.conf import settings

from accounts.signin import first, mail

register = template.Library()


@register.simple_tag
def sso_name() -> str:
    """Return what the provider of single sign-on is called; empty without one."""
    return settings.OIDC_NAME if settings.OIDC_ISSUER else ""


@register.simple_tag
def first_run() -> bool:
    """Return whether there is no administrator yet. Costs a query."""
    return first.is_wanted()


@register.simple_tag
def can_mail() -> bool:
    """Return whether a link to set a new password can be mailed."""
    return mail.is_configured()
