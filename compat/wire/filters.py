"""The header `X-Filter: Property=expression[,i]` of lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compat.wire.patterns import Pattern
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def filtered(rows: Iterable[dict[str, Any]], text: str | None) -> list[dict[str, Any]]:
    """Return the rows that the filter `text` lets through; all without one.

    A property is a key of the row ignoring case, dots lead into nested objects and a list matches
    by any of its members; a property that no row has matches nothing. `Name` must match as a whole
    and in any case: clients that look for `tf-vm` do not mean `tf-vm2`. Raises `Invalid`.
    """
    rows = list(rows)
    if not text or not text.strip():
        return rows
    name, equals, expression = text.partition("=")
    if not equals or not name.strip() or "=" in expression:
        raise Invalid("The filter must have the form Property=expression.")
    ignore_case = expression.endswith(",i")
    expression = expression.removesuffix(",i").strip()
    path = [part.lower() for part in name.strip().split(".")]
    whole = path == ["name"]
    pattern = Pattern(expression, ignore_case=ignore_case or whole)
    matches = pattern.matches_all if whole else pattern.found_in
    return [row for row in rows if any(matches(value) for value in _values(row, path))]


def _values(thing: Any, path: list[str]) -> Iterator[str]:
    if isinstance(thing, list):
        for one in thing:
            yield from _values(one, path)
    elif path:
        if isinstance(thing, dict):
            for key, value in thing.items():
                if key.lower() == path[0]:
                    yield from _values(value, path[1:])
    elif isinstance(thing, bool):
        yield "true" if thing else "false"
    elif thing is not None and not isinstance(thing, dict):
        yield str(thing)
