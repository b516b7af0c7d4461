"""How often credentials may be guessed: failures of an address within a minute.

Passwords have allauth's limits. This is for secrets that a maker chose and that may be short.
"""

from __future__ import annotations

from django.core.cache import cache

from orchestrator.refusals import Refusal

FAILURES = 30
SECONDS = 60


class TooManyTries(Refusal):
    """Too many tries failed for this account or from this address."""

    status = 429
    title = "Too Many Requests"
    default_code = "throttled"
    retry_after = SECONDS


def refuse_after_many(address: str) -> None:
    """Raise `TooManyTries` when too many tries from `address` have failed just now."""
    if cache.get(_key(address), 0) >= FAILURES:
        raise TooManyTries("Too many API keys from your address were wrong. Wait a minute.")


def count_failure(address: str) -> None:
    """Count a try from `address` that failed."""
    if not cache.add(_key(address), 1, SECONDS):
        try:
            cache.incr(_key(address))
        except ValueError:  # its minute is over since
            cache.add(_key(address), 1, SECONDS)


def _key(address: str) -> str:
    return f"accounts.tries:{address}"
