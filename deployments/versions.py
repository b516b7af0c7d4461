"""Versions as SemVer orders them, and ranges of them in interval notation.

`1.2` is `1.2.0`; up to four numbers, then perhaps `-` and a pre-release, and `+` and build words
that count for nothing. `[1.0,2.0)` holds 1.0 and all below 2.0; a side may be empty; `[1.0]` and
`1.0` hold one version. As in SemVer a pre-release comes before its release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Any

VERSION = re.compile(
    r"(?P<numbers>[0-9]{1,9}(?:\.[0-9]{1,9}){0,3})"
    r"(?:-(?P<before>[0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)
RANGE = re.compile(
    r"(?P<open>[\[(])(?P<low>[^,\[\]()]*)(?P<comma>,)?(?P<high>[^,\[\]()]*)(?P<close>[\])])"
)
PLACES = 4


@total_ordering
@dataclass(frozen=True)
class Version:
    """A version that can be compared."""

    numbers: tuple[int, ...]
    before: tuple[str, ...] = ()

    @property
    def key(self) -> Any:
        # Identifiers of numbers are smaller than words; no pre-release is larger than any.
        parts = [(0, int(one), "") if one.isdigit() else (1, 0, one) for one in self.before]
        return (self.numbers, not self.before, parts)

    def __lt__(self, other: Version) -> bool:
        return bool(self.key < other.key)


def parsed(text: str) -> Version | None:
    """Return the version that `text` is, or None when it is none that can be compared."""
    match = VERSION.fullmatch(text.strip())
    if match is None:
        return None
    numbers = [int(one) for one in match["numbers"].split(".")]
    before = tuple(match["before"].split(".")) if match["before"] else ()
    return Version(tuple(numbers + [0] * (PLACES - len(numbers))), before)


@dataclass(frozen=True)
class Range:
    """An interval of versions; a side of None has no bound."""

    text: str
    low: Version | None
    high: Version | None
    with_low: bool
    with_high: bool

    def __contains__(self, version: object) -> bool:
        one = parsed(version) if isinstance(version, str) else version
        if not isinstance(one, Version):
            return False
        if self.low and (one < self.low or (one == self.low and not self.with_low)):
            return False
        return not (self.high and (one > self.high or (one == self.high and not self.with_high)))


def range_of(text: str) -> Range:
    """Return the range that `text` is. Raises ValueError with a sentence."""
    text = text.strip()
    help_text = "write a range as [1.0,2.0), or one version as 1.0"
    if alone := parsed(text):
        return Range(text, alone, alone, True, True)
    match = RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"“{text:.60}” is no range of versions; {help_text}.")
    bounds = []
    for side in (match["low"].strip(), match["high"].strip()):
        bound = parsed(side)
        if side and bound is None:
            raise ValueError(f"“{side:.60}” in “{text:.60}” is no version; {help_text}.")
        bounds.append(bound)
    low, high = bounds
    with_low, with_high = match["open"] == "[", match["close"] == "]"
    if not match["comma"]:
        if low is None or not (with_low and with_high):
            raise ValueError(f"“{text:.60}” is no range of versions; {help_text}.")
        high = low
    if low and high and (high < low or (low == high and not (with_low and with_high))):
        raise ValueError(f"Nothing is in “{text:.60}”; its first version is to be the lower one.")
    return Range(text, low, high, with_low, with_high)
