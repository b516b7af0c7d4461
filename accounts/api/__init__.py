"""The endpoints of accounts. What DRF's settings name is here; DRF loads it before any view."""

from accounts.api.authentication import SessionAuthentication, TokenAuthentication

__all__ = ["SessionAuthentication", "TokenAuthentication"]
