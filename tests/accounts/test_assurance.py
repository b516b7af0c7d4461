"""A second factor where a role asks for it, and a fresh proof before what is dangerous."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.test import Client
from django.urls import get_resolver

from accounts import users
from accounts.actors import Actor
from accounts.models import AuditEvent, Role
from accounts.signin import dangerous
from accounts.tokens import create_token

pytestmark = pytest.mark.django_db

SECRET = base64.b32encode(b"a secret of twenty b").decode()


def code_of(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))


def sign_in(client: Client, name: str, **more: str) -> Any:
    form = {"login": name, "password": "correct horse battery", **more}
    return client.post("/accounts/login/", form)


def ask_of(role: str, alice: Any) -> None:
    users.require_second_factor(Actor(alice), Role.objects.get(group__name=role), True)


def age(client: Client, seconds: float) -> None:
    """Let the session have been proven so long ago."""
    session = client.session
    records = session["account_authentication_methods"]
    for record in records:
        record["at"] = time.time() - seconds
    session["account_authentication_methods"] = records
    session.save()


@pytest.mark.django_db(transaction=True)  # allauth tells of a new factor after the commit
def test_a_role_asks_for_a_second_factor(client, alice, bob):
    _, token = create_token(Actor(bob), name="ci", scopes=["read"])
    ask_of("Developer", alice)
    answer = sign_in(client, "bob")
    assert (answer.status_code, answer.url) == (302, "/")
    for path in ("/", "/account/", "/vms/", "/account/sessions/", "/tokens/new/"):
        answer = client.get(path)
        assert answer.status_code == 302, path
        assert answer.url.startswith("/account/second-factor/?next="), path
    htmx = client.get(
        "/vms/", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/vms/"}
    )
    assert htmx["HX-Redirect"] == "/account/second-factor/?next=%2Fvms%2F"
    answer = client.get("/api/v2/me/")
    assert (answer.status_code, answer.json()["code"]) == (403, "second_factor_required")
    # A token is not concerned, not even beside the session's cookie; nor is somebody else.
    bearer = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/v2/me/", headers=bearer).status_code == 200
    assert sign_in(Client(), "alice").status_code == 302
    # Set one up: then everything is open, in this session.
    assert b"Authenticator app" in client.get("/account/second-factor/").content
    form = client.get("/accounts/2fa/totp/activate/").context["form"]
    answer = client.post("/accounts/2fa/totp/activate/", {"code": code_of(form.secret)})
    assert answer.status_code == 302
    assert client.get("/vms/").status_code == 200
    assert client.get("/api/v2/me/").status_code == 200
    assert client.get("/account/second-factor/?next=/vms/").url == "/vms/"
    # A sign-in afterwards needs it, and is then open at once.
    other = Client()
    answer = sign_in(other, "bob")
    assert answer.url == "/accounts/2fa/authenticate/"
    assert other.get("/vms/").url.startswith("/accounts/login/")
    answer = other.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert answer.status_code == 200
    codes = bob.authenticator_set.get(type="recovery_codes").wrap().get_unused_codes()
    answer = other.post("/accounts/2fa/authenticate/", {"code": codes[0]})
    assert answer.status_code == 302
    assert other.get("/vms/").status_code == 200
    # Without it again, the session is no better than before.
    assert other.post("/accounts/2fa/totp/deactivate/").status_code == 302
    assert other.get("/vms/").url.startswith("/account/second-factor/")
    acts = AuditEvent.objects.filter(subject=f"user:{bob.pk}").order_by("pk")
    assert [
        (event.action, event.data.get("method") or event.data.get("kind") or event.data.get("code"))
        for event in acts
    ] == [
        ("signin.done", "password"),
        ("second_factor.added", "authenticator"),
        ("signin.refused", "authenticator"),
        ("signin.done", "password, recovery code"),
        ("second_factor.removed", "authenticator"),
    ]
    assert not any(SECRET in str(event.data) for event in acts)


def test_who_has_one_but_did_not_use_it_is_asked_for_it(client, alice, bob):
    TOTP.activate(bob, SECRET)
    client.force_login(bob)
    assert client.get("/vms/").status_code == 200
    ask_of("Developer", alice)
    assert b"Use it now" in client.get("/account/second-factor/?next=/vms/").content
    assert client.get("/vms/").status_code == 302
    answer = client.post(
        "/accounts/2fa/reauthenticate/", {"code": code_of(SECRET), "next": "/vms/"}
    )
    assert answer.url == "/vms/"
    assert client.get("/vms/").status_code == 200


def test_an_administrator_removes_what_somebody_lost(as_, alice, bob):
    TOTP.activate(bob, SECRET)
    theirs = Client()
    theirs.force_login(bob)
    path = f"/users/{bob.pk}/remove-factors/"
    assert as_(bob).post(path).status_code == 403
    admin = as_(alice)
    assert b"Lost second factor" in admin.get(f"/users/{bob.pk}/").content
    assert admin.post(path).status_code == 303
    assert not bob.authenticator_set.exists()
    assert theirs.get("/account/").status_code == 302
    assert sign_in(theirs, "bob").url == "/"
    api = f"/api/v2/users/{bob.pk}/remove-factors/"
    assert admin.post(api, {}, "application/json").status_code == 409  # there is none
    own = f"/api/v2/users/{alice.pk}/remove-factors/"
    assert admin.post(own, {}, "application/json").status_code == 409
    assert AuditEvent.objects.get(action="second_factor.reset").data == {"kinds": ["totp"]}


def test_the_flag_is_an_administrators(as_, alice, bob, audrey):
    role = Role.objects.get(group__name="Developer")
    path = f"/roles/{role.pk}/second-factor/"
    for person in (bob, audrey):
        assert as_(person).post(path).status_code in (403, 404)
    client = as_(alice)
    assert client.post(path).status_code == 303
    role.refresh_from_db()
    assert role.requires_second_factor
    assert b"shield" in client.get("/roles/").content
    answer = client.patch(
        f"/api/v2/roles/{role.pk}/", {"requires_second_factor": False}, "application/json"
    )
    assert (answer.status_code, answer.json()["requires_second_factor"]) == (200, False)
    events = AuditEvent.objects.filter(action="role.second_factor_set").order_by("pk")
    assert [event.data["after"] for event in events] == [True, False]


def test_a_dangerous_page_asks_who_is_there_and_then_goes_on(client, alice, bob):
    sign_in(client, "alice")
    path = f"/users/{bob.pk}/roles/"
    assert client.get(path).status_code == 200
    age(client, 500)  # too little of the 900 seconds is left to fill a form in
    answer = client.get(path)
    assert (answer.status_code, answer.url) == (
        302,
        f"/accounts/reauthenticate/?next=%2Fusers%2F{bob.pk}%2Froles%2F",
    )
    assert client.post(path, {"running_vms": "keep"}).status_code == 303  # fresh enough to act
    assert not bob.groups.exists()
    age(client, 901)
    answer = client.post(path, {"running_vms": "keep", "roles": [Role.objects.first().pk]})
    assert answer.url.startswith("/accounts/reauthenticate/")
    assert not bob.groups.exists()
    # htmx goes back to the page where the dialog was opened.
    here = {"HX-Request": "true", "HX-Current-URL": f"http://testserver/users/{bob.pk}/"}
    answer = client.get(path, headers=here)
    assert answer["HX-Redirect"].endswith(f"?next=%2Fusers%2F{bob.pk}%2F")
    assert client.get(f"/users/{bob.pk}/").status_code == 200  # looking is not dangerous
    form = {"password": "wrong", "next": path}
    assert client.post("/accounts/reauthenticate/", form).status_code == 200
    assert client.get(path).status_code == 302
    answer = client.post("/accounts/reauthenticate/", form | {"password": "correct horse battery"})
    assert answer.url == path
    assert client.get(path).status_code == 200


def test_the_api_asks_sessions_only(client, alice, bob):
    sign_in(client, "alice")
    body = {"name": "x", "scopes": ["read"]}
    assert client.post("/api/v2/tokens/", body, "application/json").status_code == 201
    age(client, 901)
    answer = client.post("/api/v2/tokens/", body, "application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    assert client.get("/api/v2/tokens/").status_code == 200
    batch = {"verb": "vm.delete", "ids": []}
    answer = client.post("/api/v2/batches/", batch, "application/json")
    assert answer.json()["code"] == "reauthentication_required"
    answer = client.post("/api/v2/batches/", batch | {"verb": "vm.stop"}, "application/json")
    assert answer.status_code == 400
    host = "/api/v2/hosts/01890000-0000-7000-8000-000000000000/"
    answer = client.patch(host, {"password": "x"}, "application/json")
    assert answer.json()["code"] == "reauthentication_required"
    assert client.patch(host, {"tags": []}, "application/json").status_code == 404
    _, token = create_token(Actor(alice), name="root", scopes=["admin"])
    bearer = {"Authorization": f"Bearer {token}"}
    answer = client.post("/api/v2/tokens/", body, "application/json", headers=bearer)
    assert answer.status_code == 201


def test_ones_own_second_factor_is_changed_only_with_it_and_a_fresh_proof(client, bob):
    client.force_login(bob)
    TOTP.activate(bob, SECRET)
    changes = ("totp/deactivate/", "webauthn/add/", "recovery-codes/generate/")
    for change in changes:  # a session from before it, or of a stolen password
        answer = client.post(f"/accounts/2fa/{change}")
        assert answer.url.startswith("/account/second-factor/"), change
    client.post("/accounts/2fa/reauthenticate/", {"code": code_of(SECRET)})
    age(client, 901)
    for change in changes:
        answer = client.post(f"/accounts/2fa/{change}")
        assert answer.url.startswith("/accounts/reauthenticate/"), change
    assert bob.authenticator_set.exists()


def test_who_has_nothing_to_prove_it_with_is_told_so(client, bob):
    bob.set_unusable_password()
    bob.save()
    client.force_login(bob)
    age(client, 901)
    for path in ("/tokens/new/", "/accounts/2fa/totp/activate/"):
        assert client.get(path).url.startswith("/account/confirm/?next=")
    assert b"nothing to prove it with" in client.get("/account/confirm/").content


def test_every_name_on_the_list_is_a_route():
    names = set()

    def walk(patterns: list[Any], prefix: str = "") -> None:
        for pattern in patterns:
            if hasattr(pattern, "url_patterns"):
                inner = f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix
                walk(pattern.url_patterns, inner)
            else:
                names.add(f"{prefix}{pattern.name}")

    walk(get_resolver().url_patterns)
    listed = dangerous.PAGES | {name for _, name in [*dangerous.API, *dangerous.BY_BODY]}
    assert listed - names == set()
