"""Names in a sentence."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 5


def some(names: Iterable[str]) -> str:
    """Write the first few names, each once, and how many more there are."""
    listed = list(dict.fromkeys(names))
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
