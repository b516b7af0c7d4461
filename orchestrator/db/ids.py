"""Ids and marks."""

from __future__ import annotations

import secrets
import uuid

import uuid6

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
MARK_LENGTH = 16


def uuid7() -> uuid.UUID:
    """Return a new UUIDv7: unique and sortable by time, so that lists can page by id alone."""
    return uuid.UUID(int=uuid6.uuid7().int)


def mark() -> str:
    """Return a new ownership mark: 16 characters of Crockford base32 (80 random bits).

    Lower case, because host file systems and name matches may ignore case.
    """
    return "".join(secrets.choice(CROCKFORD) for _ in range(MARK_LENGTH))
