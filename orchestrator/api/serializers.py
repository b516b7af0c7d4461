"""Fields that take JSON as it is meant: a number is no text, "yes" is no truth value.

DRF coerces; an interface whose schema says `integer` must refuse `"4"`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from rest_framework import serializers

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}\Z")
BIGGEST = 2**31 - 1  # of a PositiveIntegerField on PostgreSQL


class Text(serializers.CharField):
    """A string."""

    default_error_messages = {"invalid": "Give a text."}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Secret(Text):
    """A string that is taken exactly as sent and never shown."""

    def __init__(self, **options: Any) -> None:
        super().__init__(write_only=True, trim_whitespace=False, **options)


class Whole(serializers.IntegerField):
    """A whole number that the database can hold."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("min_value", 0)
        options.setdefault("max_value", BIGGEST)
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """`true` or `false`."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class OneOf(serializers.ChoiceField):
    """One of some texts."""

    default_error_messages = {"invalid_choice": "Choose one of: {choices}."}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in self.choices:
            self.fail("invalid_choice", choices=", ".join(str(one) for one in self.choices))
        return data


class Moment(serializers.DateTimeField):
    """A time as RFC 3339 has it, with its offset."""

    def __init__(self, **options: Any) -> None:
        super().__init__(input_formats=["iso-8601"], **options)

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str) or "T" not in value.upper():
            self.fail("invalid", format="2026-01-31T12:00:00Z")
        moment = super().to_internal_value(value)
        assert isinstance(moment, datetime)
        return moment


class Texts(serializers.ListField):
    """A list of strings, each at most 100 characters."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("child", Text(max_length=100))
        options.setdefault("max_length", 100)
        super().__init__(**options)


class Variables(serializers.DictField):
    """Environment variables: names as a shell takes them, with their texts."""

    default_error_messages = {"bad_name": "This is not a name of a variable: letters, digits, _."}

    def __init__(self, **options: Any) -> None:
        super().__init__(child=Text(max_length=10_000, allow_blank=True), **options)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and not all(_VARIABLE.match(str(name)) for name in data):
            self.fail("bad_name")
        return super().to_internal_value(data)


class Input(serializers.Serializer[Any]):
    """What a request body may hold. A field that does not exist is refused, not ignored.

    Whoever misspells `memory_mib` learns it at once instead of getting a small VM.
    """

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := [str(k) for k in data if k not in self.fields]):
            raise serializers.ValidationError(
                {name: ["There is no such field."] for name in unknown[:20]}
            )
        return super().to_internal_value(data)


class Output(serializers.Serializer[Any]):
    """What an object looks like from outside."""


class ReferenceOutput(Output):
    """An object that another one names."""

    id = serializers.UUIDField()
    name = serializers.CharField()


class Problem(Output):
    """A failure, as RFC 9457 describes it."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What went wrong, and what to do about it.")
    code = serializers.CharField(help_text="For machines.")
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="By field. The empty name stands for the request as a whole.",
    )


class Nothing(Input):
    """A verb without options: an empty object, or no body."""
