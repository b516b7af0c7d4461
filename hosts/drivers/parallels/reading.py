"""Reading JSON from a host without believing any of it: each field is asked for with its type.

All text comes out fit for a database: no NUL, no half surrogate, 255 characters unless said.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

MAX_TEXT = 255
_MAX_WHOLE = 2**31 - 1  # what a database integer holds
_UNFIT = re.compile("[\x00\ud800-\udfff]")
_REQUIRED: Any = object()
_WORDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


class WrongAnswer(Exception):
    """A field of the answer is missing or of another type; the text names it."""


def parse_json(body: bytes) -> Any:
    """Return the document; raises `WrongAnswer` for what is not one JSON value in UTF-8."""
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, endless digits, endless brackets
        raise WrongAnswer("it is not valid JSON") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def clean(text: str) -> str:
    """Replace what no database column takes."""
    return _UNFIT.sub("\ufffd", text)


@dataclass(frozen=True)
class Node:
    """An object of the answer and its path in it, for errors."""

    values: dict[str, Any]
    path: str = ""

    @classmethod
    def of(cls, value: Any, path: str = "") -> Node:
        if not isinstance(value, dict):
            raise WrongAnswer(f"{path or 'the answer'} should be an object, not {_describe(value)}")
        return cls(value, path)

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, wanted: str) -> NoReturn:
        if key not in self.values:
            raise WrongAnswer(f"the field {self.at(key)} is missing")
        raise WrongAnswer(
            f"the field {self.at(key)} should be {wanted}, not {_describe(self.values[key])}"
        )

    def _take(self, key: str, default: Any) -> Any:
        """The value, or the default when it is absent or null (Go's unset pointer)."""
        value = self.values.get(key)
        if value is None:
            if default is _REQUIRED:
                self.wrong(key, "set")
            return default
        return value

    def text(self, key: str, default: Any = _REQUIRED, *, limit: int | None = MAX_TEXT) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            self.wrong(key, "text")
        return clean(value)[:limit]

    def identifier(self, key: str) -> str:
        """Text that names something on the host: never empty, never shortened."""
        value = self.text(key, limit=None)
        if not value or len(value) > MAX_TEXT or value != self.values[key]:
            self.wrong(key, f"an identifier of 1 to {MAX_TEXT} characters")
        return value

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(key, "a number")
        if abs(value) > 2**53:
            raise WrongAnswer(f"the number in {self.at(key)} is too large")
        return value

    def whole(self, key: str, default: Any = _REQUIRED) -> int:
        value = self.number(key, default)
        if value != int(value) or abs(value) > _MAX_WHOLE:
            self.wrong(key, "a whole number of a usual size")
        return int(value)

    def count(self, key: str, default: Any = _REQUIRED) -> int:
        value = self.whole(key, default)
        if value < 0:
            raise WrongAnswer(f"the number in {self.at(key)} is negative")
        return value

    def boolean(self, key: str, default: Any = _REQUIRED) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            self.wrong(key, "true or false")
        return value

    def child(self, key: str, default: Any = _REQUIRED) -> Node:
        return Node.of(self._take(key, default), self.at(key))

    def children(self, key: str) -> Iterator[Node]:
        """The objects of a list; absent and null (Go's nil slice) are an empty one."""
        value = self._take(key, [])
        if not isinstance(value, list):
            self.wrong(key, "a list")
        return nodes(value, self.at(key))

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.wrong(key, "a list of texts")
        return tuple(clean(item)[:MAX_TEXT] for item in value)

    def ip_address(self, key: str) -> str | None:
        """An address; None for "-", empty and anything that is not an address yet."""
        value = self.text(key, "").partition("/")[0].partition("%")[0].strip()
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            return None

    def moment(self, key: str) -> datetime | None:
        """An RFC 3339 time, aware; None for Go's zero time and for anything unreadable."""
        try:
            moment = datetime.fromisoformat(self.text(key, ""))
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return None
        return moment if moment.year > 1970 else None


def nodes(value: Any, path: str) -> Iterator[Node]:
    """The objects of a list that is the whole answer or a field of it."""
    if not isinstance(value, list):
        raise WrongAnswer(f"{path or 'the answer'} should be a list, not {_describe(value)}")
    return (Node.of(item, f"{path}[{index}]") for index, item in enumerate(value))


def _describe(value: Any) -> str:
    return "empty" if value is None else _WORDS.get(type(value), "something else")
