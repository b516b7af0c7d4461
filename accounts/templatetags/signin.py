"""What the pages of signing in ask."""

from __future__ import annotations

from django import template
from django.conf import settings

register = template.Library()


@register.simple_tag
def sso_name() -> str:
    """Return what the provider of single sign-on is called; empty without one."""
    return settings.OIDC_NAME if settings.OIDC_ISSUER else ""
