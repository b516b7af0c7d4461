from __future__ import annotations

import pytest
from django.contrib.messages import get_messages

from accounts import revocation
from accounts.actors import Actor
from accounts.key_pairs import encoded, find_live_pair
from accounts.models import ApiToken, AuditEvent, Role, User
from accounts.revocation import Hit
from accounts.tokens import create_token, find_live

pytestmark = pytest.mark.django_db


def htmx(path):
    return {"HX-Request": "true", "HX-Current-URL": f"http://testserver{path}"}


@pytest.fixture
def token(bob):
    return create_token(Actor(bob), name="ci", scopes=["vms"])[0]


def test_a_token_is_shown_once(as_, bob):
    client = as_(bob)
    answer = client.post(
        "/tokens/new/", {"name": "nightly", "scopes": ["vms", "read"], "expires_in": "7"}
    )
    assert answer.status_code == 200
    clear_text = answer.context["token"].clear_text
    assert clear_text in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    token = find_live(clear_text)
    assert (token.user, token.scopes) == (bob, ["read", "vms"])
    assert 6 < (token.expires_at - token.created_at).total_seconds() / 86_400 < 7.1
    assert clear_text not in client.get("/tokens/").content.decode()


def test_a_key_pair_is_made_with_a_secret_of_ones_own_or_one_made(as_, bob):
    client = as_(bob)
    asked = {"name": "action", "scopes": ["vms"], "key": "my key", "networks": "10.0.0.0/8"}
    made = client.post("/tokens/new/", asked | {"secret": " chosen "})
    page = made.content.decode()
    assert "MY_KEY" in page
    token = find_live_pair(made.context["token"].clear_text, "10.0.0.1")
    assert (token.user, token.key, token.networks) == (bob, "MY_KEY", ["10.0.0.0/8"])
    assert find_live_pair(encoded("MY_KEY", " chosen "), "10.0.0.1") == token
    shown = client.get(f"/tokens/{token.pk}/").content.decode()
    assert "MY_KEY" in shown
    assert "chosen" not in shown
    assert "Rotate" not in shown
    assert client.post("/tokens/new/", asked).status_code == 409  # the key is taken
    made = client.post("/tokens/new/", asked | {"key": "other"}).context["token"]
    assert len(made.clear_secret) > 40
    assert find_live_pair(made.clear_text, "10.0.0.1").key == "OTHER"
    answer = client.post("/tokens/new/", {"name": "x", "scopes": ["vms"], "secret": "alone"})
    assert answer.status_code == 422
    assert b"Give a key, too" in answer.content


def test_a_token_is_changed_after_what_that_hits_was_seen(as_, bob, charlie, monkeypatch):
    token, _ = create_token(Actor(bob), name="ci", scopes=["vms", "read"], maximum_vms=3)
    page = f"/tokens/{token.pk}/change/"
    assert as_(charlie).get(page).status_code == 404
    client = as_(bob)
    assert "as now: never" in client.get(page).content.decode()
    as_now = {"scopes": ["vms", "read"], "maximum_vms": "3", "running_vms": "keep"}
    client.post(page, as_now)
    assert not AuditEvent.objects.filter(action="token.changed").exists()
    client.post(page, as_now | {"networks": "10.0.0.0/8, fd00::/8", "expires_in": "7"})
    token.refresh_from_db()
    assert token.networks == ["10.0.0.0/8", "fd00::/8"]
    assert token.expires_at
    assert (token.maximum_vms, token.templates) == (3, None)

    hit = Hit("vm", token.pk, "build-1", "pending", queued=True)
    monkeypatch.setattr(revocation, "_entries", [(lambda revoked: [hit], lambda *_: [hit])])
    wanted = as_now | {"networks": "10.0.0.0/8, fd00::/8", "maximum_vms": "1"}
    answer = client.post(page, wanted)
    assert b"build-1" in answer.content
    token.refresh_from_db()
    assert token.maximum_vms == 3
    seen = answer.context["seen"]
    assert client.post(page, wanted | {"seen": "others"}).status_code == 200
    assert client.post(page, wanted | {"seen": seen}).status_code == 303
    token.refresh_from_db()
    assert token.maximum_vms == 1
    event = AuditEvent.objects.filter(action="token.changed").latest("pk")
    assert (event.data["before"], event.data["after"]) == ({"maximum_vms": 3}, {"maximum_vms": 1})
    assert event.data["hit"] == [str(hit)]
    bad = client.post(page, as_now | {"networks": "10.0.0.1/8"})
    assert bad.status_code == 400
    assert b"is no network" in bad.content


def test_a_token_for_somebody_else_needs_the_right(as_, alice, bob, charlie):
    asked = {"name": "x", "scopes": ["vms"], "user": str(charlie.pk)}
    as_(bob).post("/tokens/new/", asked)
    assert not ApiToken.objects.filter(user=charlie).exists()
    as_(alice).post("/tokens/new/", asked)
    assert ApiToken.objects.filter(user=charlie).exists()


def test_a_form_that_lacks_something_comes_back_with_its_sentence(as_, bob):
    answer = as_(bob).post("/tokens/new/", {"name": "", "scopes": []})
    assert answer.status_code == 422
    assert b"invalid-feedback" in answer.content
    assert ApiToken.objects.count() == 0


def test_revoking_shows_what_it_hits_first(as_, bob, token, monkeypatch):
    hit = revocation.Hit("vm", token.pk, "build-7", "running", queued=False, owner="bob")
    monkeypatch.setattr(revocation, "preview", lambda revoked: [hit])
    client = as_(bob)
    page = client.get(f"/tokens/{token.pk}/revoke/").content.decode()
    assert "build-7" in page
    assert client.post(f"/tokens/{token.pk}/revoke/", {}).status_code == 422
    answer = client.post(f"/tokens/{token.pk}/revoke/", {"running_vms": "keep"})
    assert (answer.status_code, answer.url) == (303, "/tokens/")
    token.refresh_from_db()
    assert token.revoked_at


def test_tokens_of_others_are_seen_only_with_the_right(as_, alice, charlie, token):
    assert as_(charlie).get(f"/tokens/{token.pk}/").status_code == 404
    assert as_(charlie).post(f"/tokens/{token.pk}/revoke/").status_code == 404
    assert as_(alice).get(f"/tokens/{token.pk}/").status_code == 200
    assert "ci</a>" not in as_(alice).get("/tokens/").content.decode()
    assert "ci</a>" in as_(alice).get("/tokens/?all=1").content.decode()


def test_an_auditor_sees_a_token_but_may_not_revoke_it(as_, audrey, token):
    client = as_(audrey)
    assert b">Revoke<" not in client.get(f"/tokens/{token.pk}/").content
    assert client.post(f"/tokens/{token.pk}/revoke/", {"running_vms": "keep"}).status_code == 403


def test_an_account_is_made(as_, alice):
    developer = Role.objects.get(group__name="Developer")
    client = as_(alice)
    form = {
        "kind": "person",
        "username": "dora",
        "password": "correct horse",
        "roles": [developer.pk],
    }
    answer = client.post("/users/new/", form)
    dora = User.objects.get(username="dora")
    assert answer.url == f"/users/{dora.pk}/"
    assert [g.name for g in dora.groups.all()] == ["Developer"]
    again = client.post("/users/new/", form | {"username": "Dora"}, headers=htmx("/users/"))
    assert again.status_code == 400
    assert b"exists" in again.content
    assert b"<html" not in again.content


def test_roles_are_changed_in_the_dialog(as_, alice, bob):
    page = f"/users/{bob.pk}/"
    answer = as_(alice).post(
        f"{page}roles/",
        {"roles": [Role.objects.get(group__name="Auditor").pk], "running_vms": "keep"},
        headers=htmx(page),
    )
    assert answer["HX-Trigger"] == "console:done"
    assert answer["HX-Reswap"] == "none"
    assert b'hx-target="#toasts"' in answer.content
    assert [g.name for g in bob.groups.all()] == ["Auditor"]


def test_the_last_administrator_stays(as_, alice):
    answer = as_(alice).post(f"/users/{alice.pk}/roles/", {"roles": [], "running_vms": "keep"})
    assert answer.status_code == 409
    assert b"would leave no administrator" in answer.content


def test_an_account_is_deactivated_and_activated(as_, alice, bob):
    client = as_(alice)
    client.post(f"/users/{bob.pk}/active/", {"running_vms": "keep"})
    bob.refresh_from_db()
    assert not bob.is_active
    answer = client.post(f"/users/{bob.pk}/active/", {})
    bob.refresh_from_db()
    assert bob.is_active
    assert "active again" in str(list(get_messages(answer.wsgi_request))[-1])


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/users/", {"alice", "audrey"}),
        ("/users/new/", {"alice"}),
        ("/roles/", {"alice", "audrey"}),
        ("/audit/", {"alice", "audrey"}),
        ("/account/", {"alice", "olga", "bob", "audrey", "charlie"}),
        ("/tokens/", {"alice", "olga", "bob", "audrey", "charlie"}),
    ],
)
def test_who_may_see_which_page(as_, alice, olga, bob, audrey, charlie, path, allowed):
    for user in (alice, olga, bob, audrey, charlie):
        status = as_(user).get(path).status_code
        assert status == (200 if user.username in allowed else 403), user.username


def test_the_navigation_shows_only_where_one_may_go(as_, alice, bob):
    assert 'href="/audit/"' in as_(alice).get("/account/").content.decode()
    page = as_(bob).get("/account/").content.decode()
    assert 'href="/audit/"' not in page
    assert 'href="/users/"' not in page


def test_the_audit_trail_is_narrowed(as_, alice, token):
    client = as_(alice)
    assert b"token.created" in client.get("/audit/?action=token").content
    assert b"token.created" not in client.get("/audit/?action=vm").content
    assert b"token.created" not in client.get("/audit/?outcome=refused").content
    assert b"token.created" in client.get(f"/audit/?subject=token:{token.pk}&actor=BOB").content


def test_pages_that_are_not_there_say_so(as_, client, alice):
    assert b"base/plain" not in client.get("/nothing/").content
    answer = as_(alice).get("/nothing/")
    assert answer.status_code == 404
    assert b'aria-label="Main"' in answer.content
    toast = as_(alice).get("/nothing/", headers=htmx("/"))
    assert toast.content.strip().startswith(b"<hx-partial")


def test_signing_in_and_out(client, bob):
    assert b"Sign in" in client.get("/accounts/login/").content
    answer = client.post("/accounts/login/", {"login": "bob", "password": "correct horse battery"})
    assert answer.url == "/"
    for path in ("password/change/", "2fa/", "logout/", "2fa/totp/activate/"):
        found = client.get(f"/accounts/{path}", follow=True)
        assert found.status_code == 200, path
        assert b"console.css" in found.content, path
    assert client.post("/accounts/logout/").url == "/accounts/login/"


def test_a_wrong_password_is_told(client, bob):
    answer = client.post("/accounts/login/", {"login": "bob", "password": "wrong"})
    assert b'role="alert"' in answer.content
