"""Encrypting secrets anew with the first of `FIELD_KEYS`, so that older keys can go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken
from django.apps import apps
from django.conf import settings
from django.db import models, transaction

from orchestrator.db.fields import EncryptedTextField, cipher

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 200
SECOND_FACTORS = "mfa.Authenticator"
KEPT = ("secret", "seed")  # of an authenticator app, of recovery codes


def encrypted_fields() -> Iterator[tuple[type[models.Model], str]]:
    """Yield every model and field that holds a secret."""
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, EncryptedTextField):
                yield model, field.attname


def rotate() -> tuple[dict[str, int], dict[str, int]]:
    """Encrypt anew what an older key encrypted; return by field how many, and how many are stuck.

    Safe to run again and while the product runs: a row that somebody changes meanwhile keeps the
    change, which the newest key encrypted. Stuck is what no key of `FIELD_KEYS` decrypts.
    """
    done: dict[str, int] = {}
    stuck: dict[str, int] = {}
    for model, name in encrypted_fields():
        label = f"{model._meta.label}.{name}"
        done[label], stuck[label] = _rotate(model, name)
    done[SECOND_FACTORS], stuck[SECOND_FACTORS] = _rotate_second_factors()
    return done, stuck


def _rotate(model: type[models.Model], name: str) -> tuple[int, int]:
    newest = Fernet(settings.FIELD_KEYS[0])
    done = stuck = 0
    # As it is stored: the field itself would decrypt it.
    rows: Any = model._base_manager.annotate(stored=models.functions.Cast(name, models.TextField()))
    rows = rows.exclude(**{name: ""}).order_by("pk").values_list("pk", "stored")
    last: Any = None
    while batch := list((rows.filter(pk__gt=last) if last else rows)[:BATCH]):
        last = batch[-1][0]
        for pk, stored in batch:
            if not stored or _is_of(newest, stored):
                continue
            try:
                clear = cipher().decrypt(stored.encode()).decode()
            except InvalidToken:
                stuck += 1
                continue
            done += _replace(model, name, pk, stored, clear)
    return done, stuck


def _rotate_second_factors() -> tuple[int, int]:
    """Encrypt anew what allauth keeps of second factors: in a field of its own, JSON."""
    newest = Fernet(settings.FIELD_KEYS[0])
    done = stuck = 0
    model = apps.get_model(SECOND_FACTORS)
    for pk in list(model._base_manager.order_by("pk").values_list("pk", flat=True)):
        with transaction.atomic():
            row = model._base_manager.select_for_update().filter(pk=pk).first()
            kept = {name: text for name in KEPT if (text := row and row.data.get(name))}
            old = {name: text for name, text in kept.items() if not _is_of(newest, text)}
            if not old:
                continue
            try:
                clear = {name: cipher().decrypt(text.encode()) for name, text in old.items()}
            except InvalidToken:
                stuck += 1
                continue
            row.data |= {name: newest.encrypt(text).decode() for name, text in clear.items()}
            row.save(update_fields=["data"])
            done += 1
    return done, stuck


def _replace(model: type[models.Model], name: str, pk: Any, stored: str, clear: str) -> int:
    with transaction.atomic():
        row = model._base_manager.select_for_update().filter(pk=pk)
        now = row.annotate(stored=models.functions.Cast(name, models.TextField()))
        if now.values_list("stored", flat=True).first() != stored:
            return 0
        return model._base_manager.filter(pk=pk).update(**{name: clear})


def _is_of(key: Fernet, stored: str) -> bool:
    try:
        key.decrypt(stored.encode())
    except InvalidToken:
        return False
    return True
