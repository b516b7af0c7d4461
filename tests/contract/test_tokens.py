"""Logging in, what a token carries, and what ends it."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import time_machine
from allauth.mfa.models import Authenticator
from django.core.cache import cache

from accounts import access_tokens, tries, users
from accounts.actors import SYSTEM, Actor
from accounts.key_pairs import create_key_pair, encoded
from accounts.models import ApiToken, AuditEvent, Role
from accounts.rotation import rotate_token
from accounts.tokens import revoke_token
from orchestrator.refusals import Conflict
from orchestrator.web import waiting
from tests.api.conftest import make_token
from tests.contract.conftest import Tool, is_error, is_unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accounts.models import User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
ASKS = "/user/configs"  # any path that needs somebody


@pytest.fixture(autouse=True)
def _no_lock_out() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def log_in(tool: Tool, **body: Any) -> Any:
    return tool("post", "/auth/token", body)


def bearer(token: str) -> Tool:
    return Tool(Authorization=f"Bearer {token}")


def payload(token: str) -> dict[str, Any]:
    """Return what a client reads in a token without verifying it."""
    return jwt.decode(token, options={"verify_signature": False})


@pytest.fixture
def token(stranger: Tool, bob: User) -> str:
    return log_in(stranger, email="bob", password=PASSWORD).json()["token"]


def test_a_password_becomes_a_token_that_tells_who_one_is(stranger: Tool, alice: User) -> None:
    type(alice).objects.filter(pk=alice.pk).update(
        email="alice@example.com", first_name="Alice", last_name="Admin"
    )
    for body in (
        {"email": "Alice@example.com", "password": PASSWORD, "api_key": ""},
        {"username": "alice", "password": PASSWORD},
        {"EMAIL": "alice", "Password": PASSWORD, "unknown": 1},
    ):
        response = log_in(stranger, **body)
        assert response.status_code == 200
        assert response["Content-Type"] == "application/json"
        told = response.json()
        assert told.keys() == {"email", "token", "expires_at"}
        assert told["email"] == "alice@example.com"
        assert isinstance(told["expires_at"], int)
        assert 890 <= told["expires_at"] - time.time() <= 900
    claims = payload(told["token"])
    assert claims["exp"] == told["expires_at"]
    assert claims["uid"] == str(alice.pk)
    assert (claims["email"], claims["username"]) == ("alice@example.com", "Alice Admin")
    assert "SUPER_USER" in claims["roles"]
    assert {"LIST_VM", "CREATE_USER", "DELET_CACHE_ITEM", "READ_ONLY"} <= set(claims["claims"])
    assert "EXECUTE_SSH" not in claims["claims"]
    assert len(claims["jti"]) == 32
    assert jwt.get_unverified_header(told["token"])["alg"] == "HS256"
    assert bearer(told["token"])("get", ASKS).status_code == 200
    assert stranger("post", "/auth/token/validate", {"token": told["token"]}).json() == {
        "valid": True
    }
    issued = AuditEvent.objects.filter(action="access_token.issued").last()
    assert issued.actor_name == "alice"
    assert told["token"] not in str(issued.data)


def test_bad_logins_sound_alike_and_are_audited(stranger: Tool, bob: User, charlie: User) -> None:
    type(charlie).objects.filter(pk=charlie.pk).update(is_active=False)
    robot = users.create_user(SYSTEM, username="robot", roles=[], kind=users.User.Kind.SERVICE)
    robot.set_password(PASSWORD)
    robot.save()
    answers = [
        log_in(stranger, email=login, password=password)
        for login, password in [
            ("bob", "wrong"),
            ("nobody", PASSWORD),
            ("charlie", PASSWORD),
            ("robot", PASSWORD),
            ("nobody@example.com", PASSWORD),
        ]
    ]
    messages = set()
    for response in answers:
        assert is_error(response, 404, diagnostics=True)
        messages.add(response.json()["message"])
    assert messages == {"Invalid user or Password"}
    assert AuditEvent.objects.filter(action="access_token.refused").count() == len(answers)
    for body in ({}, {"email": "bob"}, {"password": "x"}):
        assert is_error(log_in(stranger, **body), 400, diagnostics=True)


def test_a_mail_address_that_two_have_lets_nobody_in(
    stranger: Tool, bob: User, charlie: User
) -> None:
    type(bob).objects.update(email="shared@example.com")
    assert is_error(
        log_in(stranger, email="shared@example.com", password=PASSWORD), 404, diagnostics=True
    )


def test_failed_logins_lock_the_console_too(stranger: Tool, bob: User, client: Any) -> None:
    for _ in range(5):
        assert is_error(log_in(stranger, email="bob", password="wrong"), 404, diagnostics=True)
    locked = log_in(stranger, email="bob", password=PASSWORD)
    assert is_error(locked, 429, diagnostics=True)
    assert int(locked["Retry-After"]) > 0
    page = client.post("/accounts/login/", {"login": "bob", "password": PASSWORD})
    assert page.status_code != 302


def test_many_good_logins_lock_nobody(stranger: Tool, bob: User) -> None:
    """Terraform logs in before every call."""
    for _ in range(40):
        assert log_in(stranger, email="bob", password=PASSWORD).status_code == 200


def test_a_second_factor_is_not_gone_round(stranger: Tool, bob: User) -> None:
    Authenticator.objects.create(user=bob, type=Authenticator.Type.TOTP, data={"secret": "x"})
    refused = log_in(stranger, email="bob", password=PASSWORD)
    assert refused.status_code == 403
    assert "API token" in refused.json()["message"]
    assert is_error(log_in(stranger, email="bob", password="wrong"), 404, diagnostics=True)


def test_nor_is_one_that_a_role_asks_for(token: str, stranger: Tool, bob: User) -> None:
    assert bearer(token)("get", ASKS).status_code == 200
    Role.objects.of(bob.pk).update(requires_second_factor=True)
    refused = log_in(stranger, email="bob", password=PASSWORD)
    assert refused.status_code == 403
    assert "API token" in refused.json()["message"]
    assert is_unauthorized(bearer(token)("get", ASKS))  # what was begun before ends, too
    key = log_in(stranger, email="bob", password=make_token(bob)).json()["token"]
    assert bearer(key)("get", ASKS).status_code == 200


def test_a_password_ends_the_token(token: str, bob: User) -> None:
    assert bearer(token)("get", ASKS).status_code == 200
    bob.set_password("another long password")
    bob.save()
    assert is_unauthorized(bearer(token)("get", ASKS))


def test_deactivation_ends_the_token_for_good(
    token: str, bob: User, alice: User, stranger: Tool
) -> None:
    users.set_active(Actor(user=alice), bob, False)
    assert is_unauthorized(bearer(token)("get", ASKS))
    users.set_active(Actor(user=alice), bob, True)
    assert is_unauthorized(bearer(token)("get", ASKS))
    assert is_unauthorized(stranger("post", "/auth/token/validate", {"token": token}))


def test_signing_out_everywhere_ends_the_token(token: str, bob: User) -> None:
    type(bob).objects.filter(pk=bob.pk).update(session_epoch=1)
    assert is_unauthorized(bearer(token)("get", ASKS))


def test_a_token_ends_after_a_quarter_of_an_hour(token: str) -> None:
    with time_machine.travel(time.time() + access_tokens.SECONDS + 1):
        assert is_unauthorized(bearer(token)("get", ASKS))
        # The front asks for the end of a call that it has held meanwhile; a client cannot say so.
        inner = bearer(token)("get", ASKS, **{waiting.HEADER: waiting._INNER})
        assert inner.status_code == 200
        assert is_unauthorized(bearer(token)("get", ASKS, **{waiting.HEADER: "1"}))


def test_rights_are_read_at_each_use_and_never_from_the_token(token: str, bob: User) -> None:
    tool = bearer(token)
    assert is_unauthorized(tool("post", "/auth/users", {"username": "x"}))
    bob.groups.add(Role.objects.get(group__name="Administrator").group)
    made = {"username": "x", "name": "X", "email": "x@example.com", "password": PASSWORD}
    assert tool("post", "/auth/users", made).status_code == 201
    bob.groups.clear()
    assert is_unauthorized(tool("post", "/auth/users", made | {"username": "y"}))


def test_forged_tokens_are_none(token: str, alice: User, settings: Any) -> None:
    known = payload(token)
    forged = [
        jwt.encode(known | {"uid": str(alice.pk)}, settings.SECRET_KEY, algorithm="HS256"),
        jwt.encode(known | {"uid": str(alice.pk)}, key="", algorithm="none"),
        jwt.encode(known, "0" * 64, algorithm="HS512"),
        token[:-4] + "AAAA",
        token.rpartition(".")[0] + ".",
        "a.b.c",
        "é",
    ]
    for text in forged:
        assert is_unauthorized(bearer(text)("get", ASKS)), text
    incomplete = {name: value for name, value in known.items() if name != "stamp"}
    signed = jwt.encode(incomplete, access_tokens._secret(), algorithm="HS256")
    assert is_unauthorized(bearer(signed)("get", ASKS))


def test_the_secret_is_the_same_in_every_process(token: str, settings: Any) -> None:
    assert access_tokens.read(token, "")
    settings.SECRET_KEY = "another"
    assert access_tokens.read(token, "") is None


def _pair(user: User, *scopes: str) -> ApiToken:
    return create_key_pair(
        Actor(user=user), name="ci", key="ci key", secret="s3cret", scopes=scopes or ["admin"]
    )


def test_an_api_key_does_what_its_account_may_and_no_more(bob: User, stranger: Tool) -> None:
    pair = _pair(bob)
    assert pair.key == "CI_KEY"
    assert "s3cret" not in str(ApiToken.objects.values())
    header = encoded("CI_KEY", "s3cret")
    tool = Tool(X_Api_Key=header)
    assert tool("get", ASKS).status_code == 200
    assert ApiToken.objects.get(pk=pair.pk).last_used_at
    assert Tool(X_Api_Key=encoded("ci key", "s3cret"))("get", ASKS).status_code == 200
    assert is_unauthorized(tool("post", "/auth/users", {"username": "x"}))

    exchanged = log_in(stranger, api_key=header)
    assert exchanged.status_code == 200
    assert exchanged.json()["email"] == "bob"
    token = exchanged.json()["token"]
    assert payload(token)["api_key_id"] == str(pair.pk)
    assert bearer(token)("get", ASKS).status_code == 200

    revoke_token(Actor(user=bob), pair)
    assert is_unauthorized(tool("get", ASKS))
    assert is_unauthorized(bearer(token)("get", ASKS))
    assert is_unauthorized(log_in(stranger, api_key=header))
    assert _pair(bob).key == "CI_KEY"  # the name is free again


def test_a_narrow_key_stays_narrow_as_a_token(alice: User, stranger: Tool) -> None:
    _pair(alice, "read")
    token = log_in(stranger, api_key=encoded("CI_KEY", "s3cret")).json()["token"]
    assert "CREATE_USER" not in payload(token)["claims"]
    refused = bearer(token)("post", "/auth/users", {"username": "x", "email": "x@y.example"})
    assert is_unauthorized(refused)
    assert "scope" in refused.json()["error_description"]


def test_a_key_is_used_from_its_networks_alone(bob: User, stranger: Tool) -> None:
    pair = _pair(bob)
    header = encoded("CI_KEY", "s3cret")
    token = log_in(stranger, api_key=header).json()["token"]
    ApiToken.objects.filter(pk=pair.pk).update(networks=["10.0.0.0/8"])
    assert is_unauthorized(Tool(X_Api_Key=header)("get", ASKS))
    assert is_unauthorized(bearer(token)("get", ASKS))
    assert is_unauthorized(log_in(stranger, api_key=header))
    refused = AuditEvent.objects.filter(outcome="refused", data__code="token_network").first()
    assert (refused.actor_name, refused.token_name) == ("bob", "ci")


def test_a_key_pair_is_not_rotated(bob: User) -> None:
    with pytest.raises(Conflict):
        rotate_token(Actor(user=bob), _pair(bob))


@pytest.mark.parametrize(
    "header",
    [
        encoded("CI_KEY", "wrong"),
        encoded("OTHER", "s3cret"),
        base64.b64encode(b"CI_KEY").decode(),
        base64.b64encode(b"\xff\x00:x").decode(),
        base64.b64encode(b"\x00:x").decode(),
        "nonsense",
        "é",
    ],
)
def test_bad_api_keys_are_refused(bob: User, header: str) -> None:
    _pair(bob)
    assert is_unauthorized(Tool(X_Api_Key=header)("get", ASKS))


def test_keys_cannot_be_guessed_quickly(bob: User, stranger: Tool) -> None:
    _pair(bob)
    right = Tool(X_Api_Key=encoded("CI_KEY", "s3cret"))
    for number in range(tries.FAILURES):
        assert is_unauthorized(Tool(X_Api_Key=encoded("CI_KEY", f"s{number}"))("get", ASKS))
    locked = right("get", ASKS)
    assert is_error(locked, 429, diagnostics=True)
    assert int(locked["Retry-After"]) > 0
    exchanged = log_in(stranger, api_key=encoded("CI_KEY", "s3cret"))
    assert is_error(exchanged, 429, diagnostics=True)
    cache.clear()  # a minute later
    assert right("get", ASKS).status_code == 200


def test_tokens_of_the_native_api_are_bearers_here(bob: User) -> None:
    assert bearer(make_token(bob, "read"))("get", ASKS).status_code == 200


def test_an_api_token_may_be_sent_as_the_secret_of_a_pair(bob: User, stranger: Tool) -> None:
    """For tools that know nothing but pairs, and people who sign in with a second factor."""
    header = encoded("token", make_token(bob, "read"))
    tool = Tool(X_Api_Key=header)
    assert tool("get", ASKS).status_code == 200
    assert payload(log_in(stranger, api_key=header).json()["token"])["uid"] == str(bob.pk)
    ApiToken.objects.update(revoked_at="2026-01-01T00:00:00Z")
    assert is_unauthorized(tool("get", ASKS))


def test_an_api_token_may_stand_for_the_password_of_its_account(
    bob: User, alice: User, stranger: Tool
) -> None:
    """For tools that know nothing but passwords. It stays what it is: narrow, and revocable."""
    secret = make_token(alice, "read")
    assert is_error(log_in(stranger, email="bob", password=secret), 404, diagnostics=True)
    Authenticator.objects.create(user=alice, type=Authenticator.Type.TOTP, data={"secret": "x"})
    token = log_in(stranger, email="Alice", password=secret).json()["token"]
    assert "CREATE_USER" not in payload(token)["claims"]
    assert is_unauthorized(bearer(token)("post", "/auth/users", {"username": "x"}))
    assert bearer(token)("get", "/auth/users").status_code == 200
    ApiToken.objects.update(revoked_at="2026-01-01T00:00:00Z")
    assert is_unauthorized(bearer(token)("get", "/auth/users"))
    assert is_error(log_in(stranger, email="alice", password=secret), 404, diagnostics=True)


def test_exactly_one_kind_of_credentials(bob: User, token: str, client: Any) -> None:
    _pair(bob)
    key = encoded("CI_KEY", "s3cret")
    both = Tool(Authorization=f"Bearer {token}", X_Api_Key=key)("get", ASKS)
    assert (both.status_code, both.json()) == (401, None)
    basic = Tool(Authorization="Basic Ym9iOng=")("get", ASKS)
    assert (basic.status_code, basic.json()) == (401, None)
    assert is_unauthorized(Tool()("get", ASKS))
    # A token in a query ends in logs: only the WebSocket takes it. A session is none here.
    assert is_unauthorized(Tool()("get", f"{ASKS}?access_token={token}"))
    assert is_unauthorized(Tool()("get", f"{ASKS}?authorization={token}"))
    client.force_login(bob, "allauth.account.auth_backends.AuthenticationBackend")
    assert is_unauthorized(client.get(f"/api/v1{ASKS}"))


def test_headers_of_the_internal_protocol_give_no_right(developer: Tool) -> None:
    raised = {
        "X_Super_User": "true",
        "X_Roles": base64.b64encode(b"SUPER_USER").decode(),
        "X_Claims": base64.b64encode(b"CREATE_USER").decode(),
        "X_INTERNAL_API_CLIENT": "true",
        "X_SOURCE": "CATALOG_MANAGER_REQUEST",
        "X_ORCHESTRATOR_JOB_ID": "1",
    }
    made = {"username": "x", "name": "X", "email": "x@example.com", "password": PASSWORD}
    assert is_unauthorized(developer("post", "/auth/users", made, **raised))
    assert is_unauthorized(Tool(**raised)("get", ASKS))
