from __future__ import annotations

from allauth.mfa.adapter import DefaultMFAAdapter

from orchestrator.db.fields import decrypted, encrypted


class SecondFactorAdapter(DefaultMFAAdapter):
    """Keeps the secrets of authenticators and recovery codes encrypted, as all others are."""

    def encrypt(self, text: str) -> str:
        return encrypted(text)

    def decrypt(self, encrypted_text: str) -> str:
        return decrypted(encrypted_text, "mfa.Authenticator.data")
