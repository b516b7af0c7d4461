"""Durations in units that people write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django import forms

if TYPE_CHECKING:
    pass

UNITS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
_BY_LETTER = {unit[0]: size for unit, size in UNITS.items()}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([dhms])[a-z]*\s*,?", re.IGNORECASE)


def as_duration(seconds: int) -> str:
    """Return seconds as people write them, whole: “1 d 12 h”."""
    parts = []
    for unit, size in UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"


def parse_duration(text: str) -> int:
    """Return the seconds of “90m”, “8 h”, “1d 12h”, “2 days”; raises `ValueError`."""
    position, seconds = 0, 0.0
    while position < len(text):
        found = _PART.match(text, position)
        if not found:
            raise ValueError(text)
        seconds += float(found[1]) * _BY_LETTER[found[2].lower()]
        position = found.end()
    if not 0 < seconds < 2**31:
        raise ValueError(text)
    return round(seconds)


class DurationField(forms.CharField):
    """A duration in friendly units; the value is seconds, or None."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("help_text", "Such as 45m, 8h or 1d 12h.")
        super().__init__(**options)

    def to_python(self, value: Any) -> int | None:  # type: ignore[override]
        text = str(super().to_python(value) or "").strip()
        if not text:
            return None
        try:
            return parse_duration(text)
        except ValueError:
            raise forms.ValidationError(
                "Give a number and a unit, such as 45m, 8h or 1d 12h."
            ) from None

    def prepare_value(self, value: Any) -> Any:
        return as_duration(value) if isinstance(value, int) else value
