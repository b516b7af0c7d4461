"""Waits after wrong passwords, the trail of sign-ins, sessions and how they end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from allauth.usersessions.models import UserSession
from django.core.cache import caches
from django.test import Client

from accounts import users
from accounts.actors import Actor
from accounts.models import AuditEvent, Role, User
from accounts.signin import locks
from accounts.signin.sessions import NOTED
from accounts.tokens import create_token, find_live
from accounts.viewers import Viewers
from orchestrator.refusals import Forbidden
from orchestrator.web.cache import FallbackRedisCache

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _no_redis() -> Iterator[None]:
    """Let Redis be away: nothing listens there, so limits are kept in this process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    caches["default"] = FallbackRedisCache(  # type: ignore[assignment]
        f"redis://127.0.0.1:{port}/0", {"OPTIONS": {"socket_connect_timeout": 0.2}}
    )
    caches["default"].clear()
    yield
    del caches["default"]


def sign_in(client: Client, name: str, password: str = PASSWORD, **more: Any) -> Any:
    return client.post("/accounts/login/", {"login": name, "password": password}, **more)


def trail(*actions: str) -> list[tuple[str, str, str]]:
    events = AuditEvent.objects.filter(action__in=actions).order_by("pk")
    return [(event.action, event.subject_name, event.data.get("code", "")) for event in events]


def test_wrong_passwords_make_an_account_wait_until_an_administrator_lifts_it(alice, bob):
    """All of it without Redis, and by whatever name the server is called."""
    for number, host in enumerate(["testserver", "localhost", "127.0.0.1", "testserver", "[::1]"]):
        client = Client(headers={"Host": host})
        answer = sign_in(client, "BOB", f"wrong-{number}", REMOTE_ADDR=f"10.0.0.{number}")
        assert answer.status_code == 200
        assert b"not correct" in answer.content
    for _ in range(2):
        answer = sign_in(Client(), "bob", REMOTE_ADDR="10.0.0.9")
        assert answer.status_code == 200
        assert b"Too many wrong passwords. Wait 5 minutes" in answer.content
    assert 290 < locks.wait_of("bob") <= 300
    assert trail("signin.refused", "signin.locked") == [
        *[("signin.refused", "bob", "wrong_password")] * 5,
        ("signin.locked", "bob", "locked"),
    ]
    locked = AuditEvent.objects.get(action="signin.locked")
    assert (locked.address, locked.outcome, locked.actor_id) == ("10.0.0.9", "refused", None)
    assert "wrong-" not in "".join(str(event.data) for event in AuditEvent.objects.all())
    # Others are not concerned; the administrator sees it, and lifts it.
    client = Client()
    assert sign_in(client, "alice").status_code == 302
    assert b"for 5 minutes" in client.get(f"/users/{bob.pk}/").content
    status = client.get(f"/api/v2/users/{bob.pk}/sign-in/").json()
    assert 290 < status["locked_seconds"] <= 300
    other = Client()
    other.force_login(bob)
    assert other.post(f"/users/{alice.pk}/unlock/").status_code == 404
    with pytest.raises(Forbidden):
        locks.lift(Actor(bob), bob)
    assert client.post(f"/users/{bob.pk}/unlock/").status_code == 303
    assert locks.wait_of("bob") == 0
    assert sign_in(Client(), "bob").status_code == 302
    assert trail("user.unlocked") == [("user.unlocked", "bob", "")]


def test_an_address_waits_too_and_names_that_nobody_has_are_not_kept(bob):
    client = Client()
    for number in range(10):
        sign_in(client, f"my-password-{number}", "x")
    answer = sign_in(client, "bob")
    assert b"Too many wrong passwords. Wait" in answer.content
    assert sign_in(Client(), "bob", REMOTE_ADDR="10.0.0.2").status_code == 302
    events = AuditEvent.objects.filter(action="signin.refused")
    assert {event.data["code"] for event in events} == {"unknown_account"}
    assert not any("my-password" in f"{event.subject_name}{event.data}" for event in events)
    for _ in range(30):
        answer = client.post("/accounts/login/", {})
    assert (answer.status_code, answer["Retry-After"]) == (429, "60")


def test_sign_ins_and_sign_outs_are_in_the_trail(client, bob):
    sign_in(client, "bob", REMOTE_ADDR="10.1.1.1", headers={"User-Agent": "Firefox"})
    client.post("/accounts/logout/")
    User.objects.filter(pk=bob.pk).update(is_active=False)
    sign_in(client, "bob")
    events = AuditEvent.objects.order_by("pk")
    assert [(e.action, e.actor_name, e.data.get("method", "")) for e in events] == [
        ("signin.done", "bob", "password"),
        ("signin.ended", "bob", ""),
        ("signin.refused", "bob", ""),
    ]
    assert events[0].address == "10.1.1.1"
    assert events[2].data["code"] == "account_inactive"


def watches(client: Client) -> bool:
    """Return whether the guard of the streams knows the client's session; it asks each second."""
    cookie = f"sessionid={client.cookies['sessionid'].value}".encode()
    scope: Any = {"headers": [(b"cookie", cookie)]}
    return Viewers().identify(scope, tokens=False) is not None


@pytest.mark.stores
def test_a_proxy_that_tells_no_address_keeps_nobody_out(bob):
    """What `X-Forwarded-For` says becomes the address of the request, whatever it is."""
    browser = Client()
    sign_in(browser, "bob", REMOTE_ADDR="10.2.2.2")
    session = browser.session
    session[NOTED] = 0  # long ago: this use is noted again
    session.save()
    assert browser.get("/account/", REMOTE_ADDR="unknown").status_code == 200
    assert UserSession.objects.get(user=bob).ip == "10.2.2.2"
    session = browser.session
    session[NOTED] = 0
    session.save()
    assert browser.get("/account/", REMOTE_ADDR="10.3.3.3").status_code == 200
    assert UserSession.objects.get(user=bob).ip == "10.3.3.3"


def test_sessions_are_listed_and_end_one_by_one_or_all_at_once(alice, bob):
    browsers = {}
    for name in ("Firefox", "Safari", "Chrome"):
        browsers[name] = Client(headers={"User-Agent": name})
        sign_in(browsers[name], "bob", REMOTE_ADDR="10.2.2.2")
    here = browsers["Firefox"]
    page = here.get("/account/sessions/").content.decode()
    assert page.count("10.2.2.2") + page.count("127.0.0.1") >= 3
    assert "Safari" in page and "password" in page
    agent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605 Version/18 Safari/605"
    apple = Client(headers={"User-Agent": agent})
    sign_in(apple, "bob")
    assert b"Safari on macOS" in here.get("/account/sessions/").content
    apple.post("/accounts/logout/")
    listed = here.get(f"/api/v2/users/{bob.pk}/sessions/").json()["results"]
    assert [(one["browser"], one["current"]) for one in listed] == [
        ("Chrome", False),
        ("Safari", False),
        ("Firefox", True),
    ]
    # One, by oneself; not by somebody else.
    safari = listed[1]["id"]
    stranger = Client()
    sign_in(stranger, "alice")
    mallory = users.create_user(Actor(alice), username="mallory", password=PASSWORD, roles=[])
    other = Client()
    sign_in(other, "mallory")
    assert other.post(f"/account/sessions/{safari}/end/").status_code == 404
    assert other.get(f"/api/v2/users/{bob.pk}/sessions/").status_code == 404
    api = f"/api/v2/users/{bob.pk}/sign-out/"
    assert other.post(api, {}, "application/json").status_code == 404
    assert all(watches(one) for one in browsers.values())
    assert here.post(f"/account/sessions/{safari}/end/").status_code == 303
    assert browsers["Safari"].get("/account/").status_code == 302
    assert [watches(one) for one in browsers.values()] == [True, False, True]
    # All others, by oneself; this one goes on.
    assert here.post("/account/sessions/end-others/").status_code == 303
    assert browsers["Chrome"].get("/account/").status_code == 302
    assert here.get("/account/").status_code == 200
    assert [watches(one) for one in browsers.values()] == [True, False, False]
    # All, by an administrator; over the API with the same effect.
    assert stranger.post(f"/users/{bob.pk}/sign-out/").status_code == 303
    assert here.get("/account/").status_code == 302
    assert not watches(here)
    assert UserSession.objects.filter(user=bob).count() == 0
    sign_in(here, "bob")
    assert stranger.post(api, {}, "application/json").status_code == 200
    assert here.get("/account/").status_code == 302
    assert other.get("/account/").status_code == 200
    assert mallory.is_active
    acts = AuditEvent.objects.filter(subject=f"user:{bob.pk}").exclude(action="signin.done")
    assert [event.action for event in acts.order_by("pk") if event.outcome == "done"] == [
        "signin.ended",
        "session.ended",
        "user.signed_out",
        "user.signed_out",
        "user.signed_out",
    ]


def test_a_session_that_nobody_listed_ends_too(client, alice, bob):
    client.force_login(bob)
    UserSession.objects.all().delete()
    assert client.get("/account/").status_code == 200
    assert Client().get("/account/").status_code == 302
    admin = Client()
    admin.force_login(alice)
    admin.post(f"/users/{bob.pk}/sign-out/")
    assert client.get("/account/").status_code == 302
    assert not watches(client)


def test_deactivation_ends_sessions_tokens_and_streams_for_good(client, alice, bob):
    sign_in(client, "bob")
    _, token = create_token(Actor(bob), name="ci", scopes=["read"])
    assert watches(client) and find_live(token)
    users.set_active(Actor(alice), bob, False)
    assert client.get("/account/").status_code == 302
    assert client.get("/api/v2/me/").status_code == 401
    assert not watches(client)
    assert find_live(token) is None
    users.set_active(Actor(alice), bob, True)
    assert client.get("/account/").status_code == 302  # the old session stays dead
    assert not watches(client)


def test_a_stream_needs_the_second_factor_as_pages_do(client, alice, bob):
    sign_in(client, "bob")
    assert watches(client)
    developer = Role.objects.get(group__name="Developer")
    users.require_second_factor(Actor(alice), developer, True)
    assert not watches(client)
