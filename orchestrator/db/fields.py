"""Secrets at rest."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def cipher() -> MultiFernet:
    """Return the cipher of `FIELD_KEYS`: the first key encrypts, every key decrypts."""
    return _cipher(tuple(settings.FIELD_KEYS))


def encrypted(text: str) -> str:
    """Return `text` as the database may hold it."""
    return cipher().encrypt(text.encode()).decode()


def decrypted(stored: str, label: str) -> str:
    """Return the text that was `encrypted`. Raises `ImproperlyConfigured`, with the `label`.

    A wrong key must be noticed, not answered with an empty password.
    """
    try:
        return cipher().decrypt(stored.encode()).decode()
    except InvalidToken:
        raise ImproperlyConfigured(
            f"FIELD_KEYS: no key decrypts {label}. Add the key that was in use when it was written."
        ) from None


class EncryptedTextField(models.TextField):
    """Text that the database holds only encrypted (Fernet, AES-128-CBC with HMAC).

    It cannot be searched. Reading raises `ImproperlyConfigured` when no key of `FIELD_KEYS` fits.
    """

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        if value in (None, ""):
            return value
        return encrypted(value)

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        if value in (None, ""):
            return value
        return decrypted(value, f"{self.model._meta.label}.{self.name}")
