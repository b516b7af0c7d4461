"""What came in: JSON, a form or multipart, by the contract's rules for bodies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.core.exceptions import RequestDataTooBig

from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest

# Credentials in the query are read by the authentication alone.
_NOT_FIELDS = ("access_token", "authorization")
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


class Body:
    """A JSON object: keys match ignoring case, unknown ones are ignored, `null` is "not there".

    Every reader raises `Invalid` when a value has another type than its client's code gives it.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = {key.lower(): value for key, value in fields.items()}

    def __bool__(self) -> bool:
        return bool(self._fields)

    def plain(self) -> dict[str, Any]:
        """Return the fields as they came, their names in lower case."""
        return dict(self._fields)

    def has(self, *names: str) -> bool:
        """Return whether one of `names` is there with a value."""
        return self.get(*names) is not None

    def get(self, *names: str) -> Any:
        """Return the value under the first of `names` that is there; None without one."""
        for name in names:
            if (value := self._fields.get(name.lower())) is not None:
                return value
        return None

    def text(self, *names: str, needed: bool = False) -> str:
        """Return a string, stripped; a number is taken for its digits. "" when it is not there.

        With `needed` it may not be empty.
        """
        value = self.get(*names)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise Invalid.field(names[0], f"Invalid request body: {names[0]} must be a string.")
        text = (value or "").strip()
        _check(names[0], text)
        if needed and not text:
            raise Invalid.field(names[0], f"Invalid request body: {names[0]} cannot be empty.")
        return text

    def secret(self, *names: str) -> str:
        """Return a string exactly as it came, blanks at its ends included."""
        value = self.get(*names)
        if value is not None and not isinstance(value, str):
            raise Invalid.field(names[0], f"Invalid request body: {names[0]} must be a string.")
        _check(names[0], value or "")
        return value or ""

    def number(self, *names: str) -> int | None:
        """Return a whole number, also from text ("4"); None when it is not there."""
        value = self.get(*names)
        if value is None or value == "":
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError
            number = int(value)
            if number != float(value) or abs(number) >= 2**63:
                raise ValueError
        except (ValueError, OverflowError):
            text = f"Invalid request body: {names[0]} must be a whole number."
            raise Invalid.field(names[0], text) from None
        return number

    def flag(self, *names: str) -> bool:
        """Return a boolean; forms and queries send it as text. False when it is not there."""
        value = self.get(*names)
        if value is None or isinstance(value, bool):
            return bool(value)
        word = value.strip().lower() if isinstance(value, str) else None
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise Invalid.field(names[0], f"Invalid request body: {names[0]} must be true or false.")

    def texts(self, *names: str) -> list[str]:
        """Return a list of strings without empty ones; a string is cut at its commas."""
        value = self.get(*names)
        if isinstance(value, str):
            value = value.split(",")
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            text = f"Invalid request body: {names[0]} must be a list of strings."
            raise Invalid.field(names[0], text)
        texts = [one.strip() for one in value if one.strip()]
        for text in texts:
            _check(names[0], text)
        return texts

    def inner(self, *names: str) -> Body:
        """Return a nested object; an empty one when it is not there."""
        value = self.get(*names)
        if value is not None and not isinstance(value, dict):
            raise Invalid.field(names[0], f"Invalid request body: {names[0]} must be an object.")
        return Body(value or {})

    def rows(self, *names: str) -> list[Body]:
        """Return a list of nested objects."""
        value = self.get(*names)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            text = f"Invalid request body: {names[0]} must be a list of objects."
            raise Invalid.field(names[0], text)
        return [Body(row) for row in value]


def read(request: HttpRequest) -> Body:
    """Return the fields of a request: of its body and, where it lacks one, of its query.

    The form of a body is told by the body itself: clients name `x-www-form-urlencoded` for JSON
    and for nothing. Raises `Invalid` for what cannot be read.
    """
    fields: dict[str, Any] = {
        key: value for key, value in request.GET.items() if key.lower() not in _NOT_FIELDS
    }
    if request.content_type == "multipart/form-data":
        # Django bounds what it keeps of a form, but not the files in it, which nobody wants here.
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise RequestDataTooBig
        return Body(fields | request.POST.dict())
    raw = request.body.strip()
    if raw.startswith(b"{") or (raw and request.content_type != _FORM):
        return Body(fields | _json(raw))
    return Body(fields | dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True)))


_FORM = "application/x-www-form-urlencoded"


def _json(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Invalid("Invalid request body: it is not JSON.") from None
    if not isinstance(found, dict):
        raise Invalid("Invalid request body: it is not an object.")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _check(name: str, text: str) -> None:
    """Refuse what no store and no answer can hold: NUL and lone surrogates."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Invalid.field(name, f"Invalid request body: {name} has characters that are no text.")
