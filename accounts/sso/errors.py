from __future__ import annotations

from allauth.socialaccount.providers.oauth2.client import OAuth2Error


class SsoError(OAuth2Error):
    """The provider's answer cannot be relied on. `code` is for the audit trail."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
