"""`Idempotency-Key`: the same POST sent twice has one effect. The rules are those of `API.md`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction

from orchestrator.api.models import IdempotencyKey
from orchestrator.refusals import Invalid, KeyReused

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from rest_framework.request import Request

HEADER = "Idempotency-Key"
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,128}\Z")


@dataclass(frozen=True)
class Keyed:
    """A request that named a key: whose, and exactly what it asked."""

    account_id: UUID
    key: str
    method: str
    path: str
    body_digest: str

    def is_request_of(self, row: IdempotencyKey) -> bool:
        return (self.method, self.path, self.body_digest) == (
            row.method,
            row.path,
            row.body_digest,
        )


def keyed(request: Request, account_id: UUID) -> Keyed | None:
    """Return the request's key with its fingerprint, or None without the header.

    Raises `Invalid` when the key is longer than 128 characters or not visible ASCII.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _VISIBLE_ASCII.match(key):
        raise Invalid(
            f"{HEADER} must be 1 to 128 visible ASCII characters without spaces.",
            code="bad_idempotency_key",
        )
    return Keyed(
        account_id=account_id,
        key=key,
        method=request.method or "",
        path=request.path.rstrip("/") + "/",  # both spellings are one request
        body_digest=hashlib.sha256(request.body).hexdigest(),
    )


def remembered(asked: Keyed) -> IdempotencyKey | None:
    """Return what the key did before. Raises `KeyReused` when it came with another request."""
    row = (
        IdempotencyKey.objects.remembered()
        .filter(account_id=asked.account_id, key=asked.key)
        .first()
    )
    if row and not asked.is_request_of(row):
        raise KeyReused(
            f"This {HEADER} was used for another request. Use a new key for a new request."
        )
    return row


def once(
    asked: Keyed, status: int, effect: Callable[[], Any], name_of: Callable[[Any], str]
) -> tuple[Any, IdempotencyKey | None]:
    """Run `effect` and remember it, in one transaction; or return what another request made.

    Returns `(what effect returned, None)`, or `(None, the row of the request that was first)`.
    The row is written before the effect, so that of two at once the second waits and does nothing.
    A refusal by `effect` rolls the row back: only successes are stored.
    """
    try:
        with transaction.atomic():
            row = _reserve(asked, status)
            done = effect()
            IdempotencyKey.objects.filter(pk=row.pk).update(subject=name_of(done))
            return done, None
    except _Taken:
        # Nobody forgets a row of this age, so it is there unless 24 hours ended just now.
        first = remembered(asked)
        if first is None:
            raise KeyReused(f"This {HEADER} is just expiring. Use a new key.") from None
        return None, first


class _Taken(Exception):
    """Another request with this key has committed."""


def _reserve(asked: Keyed, status: int) -> IdempotencyKey:
    IdempotencyKey.objects.expired().filter(account_id=asked.account_id, key=asked.key).delete()
    try:
        with transaction.atomic():
            return IdempotencyKey.objects.create(
                account_id=asked.account_id,
                key=asked.key,
                method=asked.method,
                path=asked.path,
                body_digest=asked.body_digest,
                status=status,
                subject="",
            )
    except IntegrityError:
        raise _Taken from None


def forget_expired() -> int:
    """Delete the rows older than 24 hours; return how many. For the retention task."""
    return IdempotencyKey.objects.expired().delete()[0]
