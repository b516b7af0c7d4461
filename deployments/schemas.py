"""Plain schemas of JSON: what a mapping may hold, and a sentence for each thing that is wrong.

A `Field` tells the kind of a value and its bounds. Errors name where they are as a path of keys,
which an import turns into a line of its file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Path = tuple[str | int, ...]
PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*\}\}")
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,98}[A-Za-z0-9])?")
LONGEST_TEXT = 64 * 1024
SHARE = re.compile(r"(100|[1-9]?[0-9])%")


class Problem(NamedTuple):
    """Something wrong at a path of keys."""

    path: Path
    text: str


@dataclass(frozen=True)
class Field:
    """One property. `kind`: text, lines, path, integer, number, flag, choice, share, list, map.

    With `placeholders` a text may stand where a number or choice is wanted, if it has one: it is
    checked again when its value is known.
    """

    kind: str = "text"
    label: str = ""
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = 2**31 - 1
    placeholders: bool = True
    inner: Mapping[str, Field] | None = None  # of a map with fixed keys, or of a list of such
    check: Callable[[Any], str] | None = field(default=None, compare=False)


Schema = Mapping[str, Field]


def problems(schema: Schema, data: Any, at: Path = ()) -> list[Problem]:
    """Return what is wrong with `data`; empty when it is as `schema` says."""
    if not isinstance(data, Mapping):
        return [Problem(at, f"This is {_word(data)}; give keys with values.")]
    found = [
        Problem((*at, key), f"There is no “{key}” here; it may be {', '.join(schema)}.")
        for key in data
        if key not in schema
    ]
    for name, one in schema.items():
        value = data.get(name)
        if value is None or value == "":
            if one.required:
                found.append(Problem((*at, name), f"Give “{name}”{_of(one)}."))
            continue
        found += _wrong(one, value, (*at, name))
    return found


def _wrong(one: Field, value: Any, at: Path) -> list[Problem]:
    if one.placeholders and isinstance(value, str) and PLACEHOLDER.search(value):
        return [] if len(value) <= LONGEST_TEXT else [Problem(at, "This text is too long.")]
    if one.kind in ("list", "map"):
        return _wrong_inside(one, value, at)
    text = KINDS[one.kind](one, value)
    if not text and one.check:
        text = one.check(value)
    return [Problem(at, text)] if text else []


def _wrong_inside(one: Field, value: Any, at: Path) -> list[Problem]:
    if one.kind == "map":
        if one.inner is not None:
            return problems(one.inner, value, at)
        if not isinstance(value, Mapping):
            return [Problem(at, f"This is {_word(value)}; give keys with values.")]
        return [
            Problem((*at, str(key)), "Give a text, a number or true or false.")
            for key, item in value.items()
            if not isinstance(key, str) or not isinstance(item, str | int | float | bool)
        ]
    if not isinstance(value, list):
        return [Problem(at, f"This is {_word(value)}; give a list.")]
    if len(value) > one.most:
        return [Problem(at, f"Give at most {one.most:.0f}.")]
    found: list[Problem] = []
    for number, item in enumerate(value):
        if one.inner is not None:
            found += problems(one.inner, item, (*at, number))
        elif not isinstance(item, str):
            found.append(Problem((*at, number), f"This is {_word(item)}; give a text."))
    return found


def _text(one: Field, value: Any) -> str:
    if not isinstance(value, str):
        return f"This is {_word(value)}; give a text."
    if "\x00" in value:
        return "A text has no zero characters."
    if one.kind != "lines" and not value.isprintable():
        return "Give a text of one line."
    limit = LONGEST_TEXT if one.kind == "lines" else 1000
    if len(value) > limit:
        return f"Give at most {limit} characters."
    if one.kind == "path" and not re.match(r"/|[A-Za-z]:\\", value):
        return "Give a whole path, from the root on."
    return ""


def _number(one: Field, value: Any) -> str:
    kinds: Any = int if one.kind == "integer" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        return f"This is {_word(value)}; give a{'n' * (one.kind == 'integer')} {one.kind}."
    if not one.least <= value <= one.most:
        return f"Give a number from {one.least:.0f} to {one.most:.0f}."
    return ""


def _flag(one: Field, value: Any) -> str:
    return "" if isinstance(value, bool) else f"This is {_word(value)}; give true or false."


def _choice(one: Field, value: Any) -> str:
    return "" if value in one.choices else f"Give one of {', '.join(one.choices)}."


def _share(one: Field, value: Any) -> str:
    """A count, or a share such as 25%."""
    if isinstance(value, str):
        return "" if SHARE.fullmatch(value) else "Give a count, or a share such as 25%."
    return _number(Field("integer", least=one.least, most=one.most), value)


KINDS: dict[str, Callable[[Field, Any], str]] = {
    "text": _text,
    "lines": _text,
    "path": _text,
    "integer": _number,
    "number": _number,
    "flag": _flag,
    "choice": _choice,
    "share": _share,
}


def _of(one: Field) -> str:
    return f": one of {', '.join(one.choices)}" if one.choices else ""


def _word(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "a text", int: "a number", float: "a number", list: "a list"}
    return names.get(
        type(value), "a set of keys" if isinstance(value, Mapping) else "something else"
    )


def filled(schema: Schema, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties with defaults for those that are not given; None ones are left out."""
    found = {}
    for name, one in schema.items():
        value = data.get(name)
        value = one.default if value is None or value == "" else value
        if value is not None:
            found[name] = value
    return found
