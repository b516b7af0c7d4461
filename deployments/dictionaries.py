"""Dictionaries: values for placeholders, some of them secret."""

from __future__ import annotations

from typing import Any


def revealed(value: Any) -> tuple[Any, frozenset[str]]:
    """Return JSON `value` with its references to secrets replaced, and the secrets it has now.

    For the moment of execution only: mask the returned secrets in whatever is logged. Raises
    `Conflict` when a secret is no longer there.
    """
    raise NotImplementedError
