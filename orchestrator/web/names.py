"""Names for subjects (`vm:<id>`) on pages of rooms that may not know what they name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

Lookup = Callable[[set[UUID]], Mapping[UUID, str]]
Find = Callable[[str], UUID | None]
_lookups: dict[str, Lookup] = {}
_finders: dict[str, Find] = {}


def register(noun: str, lookup: Lookup, find: Find | None = None) -> None:
    """Let `lookup` (one query) name the subjects of `noun`, and `find` look for one by its name."""
    _lookups[noun] = lookup
    if find:
        _finders[noun] = find


def find(noun: str, reference: str) -> UUID | None:
    """Return the id of the `noun` that an id or a name refers to; None when there is none."""
    if _is_uuid(reference):
        return UUID(reference) if _lookups[noun]({UUID(reference)}) else None
    return _finders[noun](reference)


def of(subjects: Iterable[str]) -> dict[str, str]:
    """Return the names of the subjects that are known: at most one query for each noun."""
    wanted: dict[str, set[UUID]] = defaultdict(set)
    for subject in subjects:
        noun, _, key = subject.partition(":")
        if noun in _lookups and _is_uuid(key):
            wanted[noun].add(UUID(key))
    return {
        f"{noun}:{key}": name
        for noun, keys in wanted.items()
        for key, name in _lookups[noun](keys).items()
    }


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
