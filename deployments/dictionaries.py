"""Dictionaries: values for placeholders, some of them secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F

from accounts.audit import audit, changed
from accounts.users import from_validation
from deployments import access
from deployments.documents import SECRET_REFERENCE
from deployments.models import Application, Dictionary, DictionaryEntry
from deployments.schemas import LONGEST_TEXT, PLACEHOLDER
from events.publishing import publish
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from accounts.actors import Actor

KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
CONTAINER = re.compile(rf"(?:vm|host):{ID}")
REFERENCE = re.compile(r"\{\{secret:(" + ID + r")/([A-Za-z0-9_][A-Za-z0-9_.-]*)\}\}")
DEEPEST = 10  # values that name other keys, and so on
MASK = "••••••"
MOST_ENTRIES = 1000
SETTINGS = ("name", "description", "containers")


def create_dictionary(actor: Actor, *, name: str, **fields: Any) -> Dictionary:
    """Make a dictionary; `fields` as `update_dictionary` takes them. Raises `Invalid`."""
    actor.require("deployments.manage")
    with transaction.atomic():
        actor.take()
        dictionary = Dictionary(name=name)
        _change(dictionary, fields)
        told = {"keys": sorted({*fields.get("entries", {}), *fields.get("secrets", {})})}
        audit(actor, "dictionary.created", dictionary.subject, dictionary.name, data=told)
        announce(dictionary)
    return dictionary


def update_dictionary(actor: Actor, dictionary: Dictionary, **fields: Any) -> Dictionary:
    """Change name, description, `applications`, `containers`; set `entries` and `secrets`.

    Both are key → value, and None removes a key. A secret value is never shown again. Needs the
    right to change each environment that uses it. Raises `Forbidden`, `Invalid`.
    """
    actor.require("deployments.manage")
    with transaction.atomic():
        actor.take()
        for use in dictionary.used_by.select_related("environment").order_by("environment"):
            access.take_change(actor, use.environment)
        dictionary = Dictionary.objects.select_for_update().get(pk=dictionary.pk)
        before = {name: getattr(dictionary, name) for name in SETTINGS}
        _change(dictionary, fields)
        told = changed(before, {name: getattr(dictionary, name) for name in SETTINGS}) | {
            "fields": sorted(fields.keys() - {"entries", "secrets"}),
            "keys": sorted({*fields.get("entries", {}), *fields.get("secrets", {})}),
        }
        audit(actor, "dictionary.changed", dictionary.subject, dictionary.name, data=told)
        announce(dictionary)
    return dictionary


def _change(dictionary: Dictionary, fields: Mapping[str, Any]) -> None:
    for one in SETTINGS:
        if one in fields:
            setattr(dictionary, one, fields[one])
    dictionary.name = dictionary.name.strip()
    if not all(isinstance(one, str) and CONTAINER.fullmatch(one) for one in dictionary.containers):
        raise Invalid.field("containers", "Give paths of containers: vm:<id> or host:<id>.")
    try:
        dictionary.full_clean()
    except ValidationError as error:
        raise from_validation(error) from None
    dictionary.save()
    if "applications" in fields:
        dictionary.applications.set(fields["applications"])
    for name in ("entries", "secrets"):
        for key, value in (fields.get(name) or {}).items():
            _set(dictionary, name, key, value)
    if dictionary.entries.count() > MOST_ENTRIES:
        raise Invalid.field("entries", f"A dictionary has at most {MOST_ENTRIES} keys.")


def _set(dictionary: Dictionary, name: str, key: str, value: str | None) -> None:
    if not KEY.fullmatch(key):
        text = f"“{key:.60}” is no key: use letters, digits, dots, dashes and underscores."
        raise Invalid.field(name, text)
    if value is None:
        dictionary.entries.filter(key=key).delete()
        return
    if len(value) > LONGEST_TEXT or "\x00" in value:
        raise Invalid.field(name, f"The value of {key} is too long, or has zero characters.")
    secret = name == "secrets"
    if not secret and SECRET_REFERENCE in value:
        raise Invalid.field(name, f"The value of {key} has a reference to a secret; name its key.")
    wanted = {"secret": secret, "value": "" if secret else value}
    wanted["secret_value"] = value if secret else ""
    entry = dictionary.entries.filter(key=key).first()
    if entry is None:
        dictionary.entries.create(key=key, **wanted)
    elif (entry.secret, entry.value, entry.secret_value) != (secret, *list(wanted.values())[1:]):
        dictionary.entries.filter(pk=entry.pk).update(revision=F("revision") + 1, **wanted)


def delete_dictionary(actor: Actor, dictionary: Dictionary) -> None:
    """Delete a dictionary that no environment uses. Raises `Conflict`."""
    actor.require("deployments.manage")
    with transaction.atomic():
        actor.take()
        use = dictionary.used_by.select_related("environment").first()
        if use:
            raise Conflict(f"{use.environment} uses {dictionary}; take it out there first.")
        audit(actor, "dictionary.deleted", dictionary.subject, dictionary.name)
        announce(dictionary)
        dictionary.delete()


def announce(dictionary: Dictionary) -> None:
    """Publish that a dictionary changed."""
    publish(
        "dictionary.changed",
        dictionary.subject,
        {"name": dictionary.name},
        permission="deployments.view",
    )


# Placeholders -----------------------------------------------------------------------------------


@dataclass
class Resolver:
    """Puts values for placeholders, for one application on one container.

    `lookups` are asked in order. What is missing is collected, not raised, so that one refusal
    names all of it; `secrets` are the references that were put, with their revisions.
    """

    entries: Mapping[str, DictionaryEntry]
    builtin: Mapping[str, str]
    missing: set[str] = field(default_factory=set)
    secrets: dict[str, int] = field(default_factory=dict)

    def resolved(self, value: Any) -> Any:
        """Return JSON with its placeholders replaced; a secret becomes a reference."""
        if isinstance(value, str):
            return self._text(value, ())
        if isinstance(value, Mapping):
            return {key: self.resolved(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.resolved(one) for one in value]
        return value

    def value(self, key: str) -> str | None:
        """Return the value of a key; None (and it is missing) when nothing has it."""
        return self._value(key, ())

    def _text(self, text: str, inside: tuple[str, ...]) -> str:
        def put(match: re.Match[str]) -> str:
            found = self._value(match[1], inside)
            return match[0] if found is None else found

        return PLACEHOLDER.sub(put, text)

    def _value(self, key: str, inside: tuple[str, ...]) -> str | None:
        if key in inside or len(inside) >= DEEPEST:
            raise Invalid(
                f"The placeholder {{{{{key}}}}} leads back to itself"
                f" ({' → '.join([*inside, key])}); change a dictionary."
            )
        entry = self.entries.get(key)
        if entry is None:
            if key in self.builtin:
                return self.builtin[key]
            self.missing.add(key)
            return None
        if entry.secret:
            self.secrets[f"{entry.dictionary_id}/{key}"] = entry.revision
            return f"{SECRET_REFERENCE}{entry.dictionary_id}/{key}}}}}"
        return self._text(entry.value, (*inside, key))


def entries_for(
    dictionaries: Sequence[Dictionary],
    applications: Collection[Application],
    container: str | None,
) -> dict[str, DictionaryEntry]:
    """Return the entries that count for an application on the container of a path, by key.

    `applications` are the one that is deployed and, of a composite, the member's. Dictionaries
    restricted to others are not asked; without a container, those restricted to any.
    """
    asking = {application.pk for application in applications}
    entries: dict[str, DictionaryEntry] = {}
    for one in dictionaries:
        restricted = {row.pk for row in one.applications.all()}
        if restricted and not restricted & asking:
            continue
        if one.containers and container not in one.containers:
            continue
        for entry in one.entries.all():
            entries.setdefault(entry.key, entry)
    return entries


def revealed(value: Any) -> tuple[Any, frozenset[str]]:
    """Return JSON `value` with its references to secrets replaced, and the secrets it has now.

    For the moment of execution only: mask the returned secrets in whatever is logged. Raises
    `Conflict` when a secret is no longer there.
    """
    secrets: set[str] = set()

    def put(match: re.Match[str]) -> str:
        entry = DictionaryEntry.objects.filter(
            dictionary=UUID(match[1]), key=match[2], secret=True
        ).first()
        if entry is None:
            raise Conflict(
                f"The secret {match[2]} is no longer in its dictionary; put it back, or prepare"
                " the deployment anew.",
                code="secret_gone",
            )
        if entry.secret_value:
            secrets.add(entry.secret_value)
        return entry.secret_value

    return _mapped(value, lambda text: REFERENCE.sub(put, text)), frozenset(secrets)


def masked(value: Any) -> Any:
    """Return JSON with its references to secrets as dots and the key, for people."""
    return _mapped(value, lambda text: REFERENCE.sub(lambda match: f"{MASK} ({match[2]})", text))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(one, change) for one in value]
    return value
