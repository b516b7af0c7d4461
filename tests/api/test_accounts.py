from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from accounts.models import ApiToken, AuditEvent, User
from tests.api.conftest import Api, is_problem, make_token

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db
MISSING = "01890000-0000-7000-8000-000000000000"


def test_me_tells_account_roles_permissions_and_token(developer: Api) -> None:
    body = developer.get("me/").json()
    assert (body["username"], body["kind"], body["roles"]) == ("bob", "person", ["Developer"])
    assert body["permissions"] == ["vms.use", "webhooks.use"]
    assert body["token"]["name"] == "test"
    assert "token" not in body["token"]


@pytest.mark.parametrize("text", ["", "Bearer", "Bearer x", "Bearer orc_00_x", "Bearer \x7fé"])
def test_every_bad_token_sounds_the_same(stranger: Api, text: str, alice: User) -> None:
    response = stranger.get("me/", Authorization=text)
    assert is_problem(response, 401)
    assert response["WWW-Authenticate"] == "Bearer"


def test_a_revoked_token_and_one_of_an_inactive_account_are_refused(bob: User) -> None:
    api = Api(make_token(bob))
    User.objects.filter(pk=bob.pk).update(is_active=False)
    inactive = api.get("me/")
    User.objects.filter(pk=bob.pk).update(is_active=True)
    ApiToken.objects.update(revoked_at="2020-01-01T00:00Z")
    revoked = api.get("me/")
    assert is_problem(inactive, 401, "bad_token")
    assert is_problem(revoked, 401, "bad_token")
    assert inactive.json() == revoked.json()


def test_last_use_is_noted(bob: User) -> None:
    Api(make_token(bob)).get("me/")
    token = ApiToken.objects.get()
    assert token.last_used_at is not None
    assert token.last_used_address == "127.0.0.1"


def test_a_session_reads_and_needs_csrf_to_write(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    api = Api(client=client)
    assert api.get("me/").json()["token"] is None
    body = {"username": "dora", "roles": ["Developer"]}
    assert is_problem(api.post("users/", body), 403, "csrf_failed")


def test_a_service_account_has_no_session(bob: User) -> None:
    client = Client()
    client.force_login(bob)
    User.objects.filter(pk=bob.pk).update(kind=User.Kind.SERVICE)
    assert is_problem(Api(client=client).get("me/"), 401)


def test_users_are_made_shown_and_changed(admin: Api) -> None:
    made = admin.post("users/", {"username": "dora", "roles": ["developer"], "email": "d@x.org"})
    assert made.status_code == 201, made.content
    body = made.json()
    assert (body["username"], body["roles"], body["active"]) == ("dora", ["Developer"], True)
    assert made["Location"].endswith(f"/api/v2/users/{body['id']}/")
    assert admin.get(made["Location"]).json() == body

    changed = admin.patch(f"users/{body['id']}/", {"roles": ["Auditor", "Operator"]})
    assert changed.json()["roles"] == ["Auditor", "Operator"]
    assert admin.patch(f"users/{body['id']}/", {"active": False}).json()["active"] is False


def test_service_accounts_are_apart(admin: Api) -> None:
    made = admin.post("service-accounts/", {"username": "ci", "roles": ["Developer"]}).json()
    assert made["kind"] == "service"
    assert "ci" not in [user["username"] for user in admin.get("users/").json()["results"]]
    assert is_problem(admin.get(f"users/{made['id']}/"), 404, "not_found")
    assert admin.get(f"service-accounts/{made['id']}/").json() == made


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "x", "roles": ["Nobody"]}, "roles"),
        ({"username": "x"}, "roles"),
        ({"username": "", "roles": []}, "username"),
        ({"username": 7, "roles": []}, "username"),
        ({"username": "a\0b", "roles": []}, "username"),
        ({"username": "\ud800", "roles": []}, "username"),
        ({"username": "x" * 200, "roles": []}, "username"),
        ({"username": "x", "roles": "Developer"}, "roles"),
        ({"username": "x", "roles": [1]}, "roles.0"),
        ({"username": "x", "roles": [], "password": "short"}, "password"),
        ({"username": "x", "roles": [], "emial": "x"}, "emial"),
        ({"username": "ALICE", "roles": []}, None),
        ([], ""),
        ("text", None),
    ],
)
def test_bad_fields_are_named(admin: Api, body: object, field: str | None) -> None:
    response = admin.post("users/", body)
    assert is_problem(response, 400)
    if field is not None:
        assert field in response.json()["errors"]


def test_a_developer_sees_only_themselves_and_makes_nobody(developer: Api, alice: User) -> None:
    assert [user["username"] for user in developer.get("users/").json()["results"]] == ["bob"]
    assert is_problem(developer.get(f"users/{alice.pk}/"), 404)
    refused = developer.post("users/", {"username": "eve", "roles": ["Administrator"]})
    assert is_problem(refused, 403, "forbidden")
    event = AuditEvent.objects.get(outcome="refused")
    assert (event.action, event.actor_name) == ("users.create", "bob")
    assert event.data["code"] == "forbidden"


def test_a_read_token_writes_nothing(api_of: Callable[..., Api], alice: User) -> None:
    refused = api_of(alice, "read").post("users/", {"username": "eve", "roles": []})
    assert is_problem(refused, 403, "token_scope")


def test_tokens_are_made_listed_and_revoked(admin: Api, bob: User) -> None:
    made = admin.post("tokens/", {"name": "ci", "scopes": ["vms"], "user": "bob"})
    body = made.json()
    assert Api(body["token"]).get("me/").json()["username"] == "bob"
    shown = admin.get(f"tokens/{body['id']}/").json()
    assert "token" not in shown
    assert shown["user"] == {"id": str(bob.pk), "name": "bob"}
    assert body["token"] not in admin.get("tokens/").content.decode()

    revoked = admin.post(f"tokens/{body['id']}/revoke/", {"running_vms": "keep"})
    assert revoked.status_code == 200
    assert revoked.json()["revoked_at"]
    assert is_problem(Api(body["token"]).get("me/"), 401)


def test_a_token_of_somebody_else_is_absent(developer: Api, alice: User) -> None:
    make_token(alice)
    other = ApiToken.objects.get(user=alice)
    assert is_problem(developer.get(f"tokens/{other.pk}/"), 404)
    assert is_problem(developer.post(f"tokens/{other.pk}/revoke/"), 404)


def test_roles_are_listed_with_permissions(admin: Api) -> None:
    roles = {role["name"]: role for role in admin.get("roles/").json()["results"]}
    assert roles["Developer"]["permissions"] == ["vms.use", "webhooks.use"]
    assert roles["Developer"]["shipped"] is True


def test_audit_is_filtered(admin: Api, developer: Api) -> None:
    admin.post("users/", {"username": "dora", "roles": []})
    developer.post("users/", {"username": "eve", "roles": []})
    done = admin.get("audit/?action=user.created&actor=alice").json()["results"]
    assert [event["subject_name"] for event in done] == ["dora"]
    refused = admin.get("audit/?outcome=refused&since=2020-01-01T00:00:00Z").json()["results"]
    assert [event["actor"]["name"] for event in refused] == ["bob"]
    assert admin.get("audit/?until=2020-01-01T00:00:00Z").json()["results"] == []
    assert developer.get("audit/").json()["results"] == []
    assert is_problem(admin.get("audit/?outcome=perhaps"), 400)
    assert is_problem(admin.get("audit/?since=yesterday"), 400)
    assert is_problem(admin.get("audit/?action=a%00b"), 400)


def test_missing_users_are_absent(admin: Api) -> None:
    assert is_problem(admin.get(f"users/{MISSING}/"), 404, "not_found")
    assert is_problem(admin.patch(f"users/{MISSING}/", {"active": True}), 404)
    assert is_problem(admin.get("users/not-an-id/"), 404)


@pytest.mark.parametrize(("path", "queries"), [("users/", 4), ("roles/", 3), ("audit/", 3)])
def test_lists_cost_the_same_for_many_rows(
    admin: Api, path: str, queries: int, django_assert_num_queries: Callable[..., Any]
) -> None:
    admin.get(path)  # notes the token's use
    for rows in range(2):
        admin.post("users/", {"username": f"u{rows}", "roles": ["Developer"]})
        with django_assert_num_queries(queries):
            admin.get(path)
