"""Changing the key that encrypts secrets at rest."""

from __future__ import annotations

import importlib

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from allauth.mfa.utils import decrypt
from cryptography.fernet import Fernet
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection

from catalog.models import CatalogSource
from deployments.models import DictionaryEntry
from events.models import Webhook
from hosts.models import Host
from orchestrator.db.rotation import encrypted_fields

pytestmark = [pytest.mark.django_db, pytest.mark.stores]


def stored():
    with connection.cursor() as cursor:
        cursor.execute("SELECT password FROM hosts_host ORDER BY name")
        return [row[0] for row in cursor.fetchall()]


@pytest.fixture
def keys(settings):
    """An old key, with which two hosts were enrolled, and a new one."""
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    settings.FIELD_KEYS = [old]
    Host.objects.create(name="mac-1", url="http://mac-1/api", password="geheim")
    Host.objects.create(name="mac-2", url="http://mac-2/api", api_key="key:secret")
    return old, new


def test_after_rotating_the_old_key_can_go(settings, keys, capsys):
    old, new = keys
    settings.FIELD_KEYS = [new, old]
    call_command("rotate_keys")
    out = capsys.readouterr().out
    assert "hosts.Host.password: 1 encrypted anew" in out
    assert "hosts.Host.api_key: 1 encrypted anew" in out
    settings.FIELD_KEYS = [new]
    assert Host.objects.get(name="mac-1").password == "geheim"
    assert Host.objects.get(name="mac-2").api_key == "key:secret"
    assert stored()[1] == ""
    before = stored()
    call_command("rotate_keys")  # again: nothing is left to do
    assert stored() == before
    settings.FIELD_KEYS = [old]
    with pytest.raises(ImproperlyConfigured):
        Host.objects.get(name="mac-1")


def test_a_missing_key_is_told_and_nothing_is_lost(settings, keys, capsys):
    old, new = keys
    settings.FIELD_KEYS = [new]
    before = stored()
    with pytest.raises(SystemExit) as ended:
        call_command("rotate_keys")
    assert ended.value.code == 1
    assert "hosts.Host.password: 1 that no key" in capsys.readouterr().err
    assert stored() == before
    settings.FIELD_KEYS = [old]
    assert Host.objects.get(name="mac-1").password == "geheim"


def test_every_secret_is_found():
    assert {model for model, _ in encrypted_fields()} == {
        Host,
        CatalogSource,
        Webhook,
        DictionaryEntry,
    }


def test_the_secrets_of_second_factors_are_encrypted_and_rotated(settings, keys, bob, capsys):
    old, new = keys
    authenticator = TOTP.activate(bob, "GEZDGNBVGY3TQOJQ").instance
    RecoveryCodes.activate(bob)
    codes = RecoveryCodes(bob.authenticator_set.get(type="recovery_codes")).get_unused_codes()
    assert "GEZDGNBV" not in str(Authenticator.objects.values_list("data", flat=True))
    settings.FIELD_KEYS = [new, old]
    call_command("rotate_keys")
    assert "mfa.Authenticator: 2 encrypted anew" in capsys.readouterr().out
    settings.FIELD_KEYS = [new]
    authenticator.refresh_from_db()
    assert decrypt(authenticator.data["secret"]) == "GEZDGNBVGY3TQOJQ"
    assert (
        RecoveryCodes(bob.authenticator_set.get(type="recovery_codes")).get_unused_codes() == codes
    )
    call_command("rotate_keys")
    assert "mfa.Authenticator: 0 encrypted anew" in capsys.readouterr().out
    settings.FIELD_KEYS = [old]
    with pytest.raises(SystemExit):
        call_command("rotate_keys")
    assert "mfa.Authenticator: 2 that no key" in capsys.readouterr().err


def test_what_was_kept_in_clear_is_encrypted_by_the_migration(alice):
    """Authenticators that were set up before secrets of second factors were encrypted."""
    Authenticator.objects.create(user=alice, type="totp", data={"secret": "GEZDGNBVGY3TQOJQ"})
    Authenticator.objects.create(
        user=alice, type="recovery_codes", data={"seed": "a seed", "used_mask": 3}
    )
    migration = importlib.import_module("accounts.migrations.0006_encrypt_second_factors")
    migration.encrypt(apps, None)
    by_type = dict(Authenticator.objects.values_list("type", "data"))
    assert decrypt(by_type["totp"]["secret"]) == "GEZDGNBVGY3TQOJQ"
    assert decrypt(by_type["recovery_codes"]["seed"]) == "a seed"
    assert by_type["recovery_codes"]["used_mask"] == 3
    assert "GEZ" not in str(by_type)
