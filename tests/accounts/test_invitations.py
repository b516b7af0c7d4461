"""Links: invitations, new passwords, and the first administrator."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import invitations, users
from accounts.actors import SYSTEM, Actor
from accounts.models import AuditEvent, Invitation, Role, User
from accounts.signin import first
from orchestrator.refusals import Conflict, Invalid, NotFound
from tests.support.product import until

pytestmark = pytest.mark.django_db

PASSWORD = "a rather long one"
TWICE = {"password": PASSWORD, "again": PASSWORD}


def link_in(answer: Any) -> str:
    found = re.search(r'id="secret">http://testserver([^<]+)<', answer.content.decode())
    assert found
    return found[1]


def works(name: str, password: str = PASSWORD) -> bool:
    answer = Client().post("/accounts/login/", {"login": name, "password": password})
    return answer.status_code == 302


def test_an_invitation_makes_an_account_once(as_, alice, bob):
    developer = Role.objects.get(group__name="Developer")
    form = {"username": "nina", "roles": [developer.pk]}
    assert as_(bob).post("/invitations/new/", form).status_code == 403
    admin = as_(alice)
    answer = admin.post("/invitations/new/", form)
    link = link_in(answer)
    assert "no-store" in answer["Cache-Control"]
    secret = link.split("/")[-2]
    assert secret not in admin.get("/invitations/").content.decode()
    assert secret not in str(list(AuditEvent.objects.values("data", "subject")))
    assert admin.post("/invitations/new/", form).status_code == 409  # invited already
    # A new link kills the old one.
    invitation = Invitation.objects.get()
    renewed = link_in(admin.post(f"/invitations/{invitation.pk}/resend/"))
    guest = Client()
    assert guest.get(link, follow=True).status_code == 404
    answer = guest.get(renewed)
    assert (answer.status_code, answer.url) == (302, "/invitation/")
    assert b"Welcome, nina" in guest.get("/invitation/").content
    weak = guest.post("/invitation/", {"password": "password", "again": "password"})
    assert (weak.status_code, User.objects.filter(username="nina").exists()) == (400, False)
    assert guest.post("/invitation/", {**TWICE, "again": "other"}).status_code == 422
    assert guest.post("/invitation/", TWICE).status_code == 302
    nina = User.objects.get(username="nina")
    assert [role.name for role in Role.objects.of(nina.pk)] == ["Developer"]
    assert works("nina")
    again = Client()
    assert again.get(renewed, follow=True).status_code == 404
    assert again.post("/invitation/", TWICE).status_code == 404
    actions = AuditEvent.objects.filter(action__startswith="invitation.").order_by("pk")
    assert [event.action for event in actions if event.outcome == "done"] == [
        "invitation.created",
        "invitation.renewed",
        "invitation.accepted",
    ]
    assert admin.post(f"/invitations/{invitation.pk}/revoke/").status_code == 409


@pytest.mark.stores
def test_what_ends_an_invitation(as_, alice, olga):
    root = Actor(alice)

    def refused(invitation: Invitation, secret: str) -> bool:
        try:
            invitations.find(secret)
        except NotFound:
            return True
        return False

    revoked = invitations.invite(root, username="r", roles=[])
    assert not refused(*revoked)
    invitations.revoke(root, revoked[0])
    assert refused(*revoked)
    expired = invitations.invite(root, username="e", roles=[])
    Invitation.objects.filter(username="e").update(expires_at="2020-01-01T00:00:00Z")
    assert refused(*expired)
    assert not refused(expired[0], invitations.resend(root, expired[0]))
    # The right of who invited.
    deputy = users.create_user(
        root, username="deputy", roles=[Role.objects.get(group__name="Administrator")]
    )
    theirs = invitations.invite(Actor(deputy), username="d", roles=[])
    assert not refused(*theirs)
    users.set_active(root, deputy, False)
    assert refused(*theirs)
    # The name is taken meanwhile.
    late = invitations.invite(root, username="olga2", roles=[])
    users.create_user(root, username="OLGA2", roles=[])
    with pytest.raises(Invalid):
        invitations.accept(SYSTEM, late[1], PASSWORD)
    assert not refused(*late)  # and nothing was used up


def test_an_invitation_over_the_api_is_mailed(
    as_, alice, settings, django_capture_on_commit_callbacks
):
    settings.EMAIL_URL = "smtp://127.0.0.1:25"
    body = {"username": "nina", "email": "nina@example.com", "roles": ["Developer"]}
    client = as_(alice)
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post("/api/v2/invitations/", body, "application/json")
    assert answer.status_code == 201
    link = answer.json()["link"]
    until(lambda: mail.outbox, 5, "the mail is sent")
    assert mail.outbox[0].to == ["nina@example.com"]
    assert link in mail.outbox[0].body
    one = f"/api/v2/invitations/{answer.json()['id']}/"
    assert "link" not in client.get(one).json()
    assert client.get("/api/v2/invitations/").json()["results"][0]["roles"] == ["Developer"]
    assert client.post(f"{one}resend/", {}, "application/json").json()["link"] != link
    assert client.post(f"{one}revoke/", {}, "application/json").json()["revoked_at"]
    assert client.post(f"{one}resend/", {}, "application/json").status_code == 409


def test_an_administrators_link_sets_a_password_once(as_, alice, bob):
    old = Client()
    old.post("/accounts/login/", {"login": "bob", "password": "correct horse battery"})
    bob.refresh_from_db()
    assert as_(bob).post(f"/users/{bob.pk}/reset-password/").status_code == 403
    admin = as_(alice)
    link = link_in(admin.post(f"/users/{bob.pk}/reset-password/"))
    guest = Client()
    form_at = guest.get(link).url
    assert link not in form_at
    assert (
        guest.post(form_at, {"password1": "password", "password2": "password"}).status_code == 200
    )
    assert old.get("/account/").status_code == 200
    answer = guest.post(form_at, {"password1": PASSWORD, "password2": PASSWORD})
    assert answer.status_code == 302
    assert old.get("/account/").status_code == 302  # its sessions ended
    assert works("bob") and not works("bob", "correct horse battery")
    assert b"not valid" in Client().get(link, follow=True).content
    robot = users.create_user(Actor(alice), username="robot", roles=[], kind=User.Kind.SERVICE)
    assert admin.post(f"/users/{robot.pk}/reset-password/").status_code == 409
    answer = admin.post(f"/api/v2/users/{bob.pk}/reset-password/", {}, "application/json")
    assert answer.json()["link"].startswith("http://testserver/accounts/password/reset/")
    events = AuditEvent.objects.filter(action__startswith="password.").order_by("pk")
    assert [e.action for e in events] == [
        "password.link_made",
        "password.reset",
        "password.link_made",
    ]


def test_a_forgotten_password_tells_nobody_who_has_an_account(client, alice, bob, settings):
    assert client.get("/accounts/password/forgotten/").status_code == 404
    assert b"Forgot" not in client.get("/accounts/login/").content
    settings.EMAIL_URL = "smtp://127.0.0.1:25"
    settings.PUBLIC_URL = "https://pool.example.com"
    assert b"Forgot" in client.get("/accounts/login/").content
    User.objects.filter(pk=bob.pk).update(email="bob@example.com")
    sso = User.objects.create(username="sso", email="sso@example.com", password="!")
    assert not sso.has_usable_password()
    answers = {
        address: client.post("/accounts/password/forgotten/", {"email": address})
        for address in ("nobody@example.com", "sso@example.com", "bob@example.com")
    }
    assert {(answer.status_code, answer.url) for answer in answers.values()} == {
        (302, "/accounts/password/sent/")
    }
    until(lambda: mail.outbox, 5, "the mail is sent")
    assert [message.to for message in mail.outbox] == [["bob@example.com"]]
    found = re.search(r"https://pool\.example\.com(/\S+)", mail.outbox[0].body)
    assert found
    form_at = Client().get(found[1])
    assert form_at.status_code == 302


def test_the_first_administrator_needs_the_code_of_the_server(client, capsys):
    from accounts.roles import sync_shipped_roles

    sync_shipped_roles()
    assert b"Make the first one" in client.get("/accounts/login/").content
    page = client.get("/setup/").content.decode()
    assert first.code() not in page
    call_command("setup_code")
    code = capsys.readouterr().out.split()[-1]
    form = {"username": "root", "code": "a" * 20, **TWICE}
    assert client.post("/setup/", form).status_code == 400
    assert not User.objects.exists()
    weak = {"password": "password", "again": "password"}
    assert client.post("/setup/", {**form, "code": code, **weak}).status_code == 400
    assert client.post("/setup/", {**form, "code": code}).status_code == 302
    assert works("root")
    assert not first.is_wanted()
    # The code is worth nothing from now on.
    assert client.get("/setup/").status_code == 404
    assert client.post("/setup/", {**form, "username": "other", "code": code}).status_code == 404
    with pytest.raises(Conflict):
        first.make(SYSTEM, code, username="other", password=PASSWORD)
    with pytest.raises(CommandError):
        call_command("setup_code")
    made = AuditEvent.objects.get(action="user.created")
    assert (made.data["source"], made.data["roles"]) == ("first run", ["Administrator"])
