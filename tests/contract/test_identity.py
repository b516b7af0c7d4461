"""Users, roles, claims, API keys and preferences, as consoles and Terraform use them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from accounts import custom_roles
from accounts.actors import Actor
from accounts.claims import CLAIMS
from accounts.models import ApiToken, AuditEvent, Preference, User
from accounts.permissions import PERMISSIONS
from tests.contract.conftest import Tool, is_empty, is_error, is_unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db
PASSWORD = "Abcdef123456!"
DEV = {
    "username": "dev1",
    "name": "Dev One",
    "email": "dev1@example.com",
    "password": PASSWORD,
    "roles": ["USER"],
    "claims": ["LIST_VM"],
    "is_super_user": False,
}
USER_KEYS = {
    *("id", "username", "name", "email", "roles", "claims", "effective_claims", "isSuperUser")
}


def problem(response: Any, status: int = 400) -> str:
    """Assert an error of accounts and return its sentence."""
    assert is_error(response, status, diagnostics=True)
    return response.json()["message"]


@pytest.fixture
def manager(charlie: User, alice: User, tool_of: Callable[..., Tool]) -> Tool:
    """Charlie, who manages accounts and may do nothing else."""
    role = custom_roles.create_role(
        Actor(user=alice), name="People", permissions=["accounts.view", "accounts.manage"]
    )
    charlie.groups.add(role.group)
    return tool_of(charlie)


def test_every_permission_has_a_claim_and_every_claim_known_permissions() -> None:
    used = {code for claim in CLAIMS.values() for code in claim.permissions}
    assert used <= PERMISSIONS.keys()
    # What this API has no calls for needs no words of it.
    without = {"hosts.logs", "templates.view_all", "templates.manage", "audit.view", "webhooks.use"}
    without |= {code for code in PERMISSIONS if code.startswith("deployments.")}
    assert PERMISSIONS.keys() - used == without


def test_users_are_made_shown_changed_and_deleted(admin: Tool, stranger: Tool) -> None:
    made = admin("post", "/auth/users", DEV)
    assert made.status_code == 201
    user = made.json()
    assert user.keys() == USER_KEYS
    assert (user["username"], user["name"], user["roles"]) == ("dev1", "Dev One", ["USER"])
    assert user["isSuperUser"] is False
    claims = {one["name"]: one for one in user["effective_claims"]}
    assert claims["LIST_VM"]["is_inherited"] is True
    assert claims["LIST_VM"]["source_role"] == "USER"
    assert "CREATE_USER" not in claims

    for reference in (user["id"], "dev1", "DEV1", "dev1@example.com"):
        assert admin("get", f"/auth/users/{reference}").json() == user
    names = [one["username"] for one in admin("get", "/auth/users").json()]
    assert names == ["alice", "dev1"]
    filtered = admin("get", "/auth/users", X_Filter="isSuperUser=true").json()
    assert [one["username"] for one in filtered] == ["alice"]

    assert "exists" in problem(admin("post", "/auth/users", DEV))
    assert problem(admin("post", "/auth/users", DEV | {"username": "x", "password": "short"}))
    assert problem(admin("post", "/auth/users", DEV | {"username": "x", "roles": ["NONE"]}))
    assert problem(admin("post", "/auth/users", {"username": "x"}))
    assert problem(admin("post", "/auth/users", DEV | {"username": "x", "password": ""}))
    assert not User.objects.filter(username="x").exists()

    changed = {"name": "New Name", "email": "new@example.com", "password": "another long one"}
    assert is_empty(admin("put", "/auth/users/dev1", changed))
    shown = admin("get", "/auth/users/dev1").json()
    assert (shown["name"], shown["email"]) == ("New Name", "new@example.com")
    login = {"email": "new@example.com", "password": "another long one"}
    assert stranger("post", "/auth/token", login).status_code == 200
    assert problem(admin("put", "/auth/users/dev1", {"password": "short"}))
    assert problem(admin("put", "/auth/users/dev1", {}))
    assert problem(admin("put", "/auth/users/dev1", {"email": "no address"}))
    assert "password" not in str(AuditEvent.objects.get(action="user.created").data)
    assert "another long one" not in str(AuditEvent.objects.values_list("data"))

    assert is_empty(admin("delete", "/auth/users/dev1"))
    assert problem(admin("get", "/auth/users/dev1"), 404)
    assert problem(admin("delete", "/auth/users/dev1"), 404)
    assert problem(stranger("post", "/auth/token", login), 404)
    assert "own" in problem(admin("delete", "/auth/users/alice"))


def test_a_super_user_is_an_administrator(admin: Tool) -> None:
    made = admin("post", "/auth/users", DEV | {"is_super_user": True, "roles": []}).json()
    assert made["isSuperUser"] is True
    assert made["roles"] == ["SUPER_USER", "USER"]
    assert is_empty(admin("delete", "/auth/users/dev1/roles/SUPER_USER"))
    assert admin("get", "/auth/users/dev1").json()["isSuperUser"] is False


def test_claims_that_the_roles_do_not_give_are_refused_and_nobody_is_made(admin: Tool) -> None:
    text = problem(admin("post", "/auth/users", DEV | {"claims": ["LIST_VM", "CREATE_USER"]}))
    assert "CREATE_USER" in text
    assert "LIST_VM" not in text
    assert not User.objects.filter(username="dev1").exists()


def test_nobody_raises_anybody_beyond_their_own_rights(manager: Tool, alice: User) -> None:
    for body in (
        DEV | {"is_super_user": True},
        DEV | {"roles": ["ADMIN"]},
        DEV | {"roles": ["Operator"]},
    ):
        refused = manager("post", "/auth/users", body)
        assert is_unauthorized(refused)
        assert "rights that you do not have" in refused.json()["error_description"]
    assert is_unauthorized(manager("post", "/auth/users/charlie/roles", {"name": "SUPER_USER"}))
    assert is_unauthorized(manager("post", "/auth/roles", {"name": "X", "claims": ["CREATE_VM"]}))
    assert is_unauthorized(manager("post", "/auth/roles/People/claims", {"name": "CREATE"}))
    assert is_unauthorized(manager("put", "/auth/users/alice", {"password": PASSWORD}))
    assert is_unauthorized(manager("put", "/auth/users/alice", {"email": "mine@example.com"}))
    key = {"name": "x", "key": "x", "secret": "y", "user_id": str(alice.pk)}
    assert is_unauthorized(manager("post", "/auth/api_keys", key))
    alice.refresh_from_db()
    assert alice.check_password("correct horse battery")
    assert not ApiToken.objects.filter(user=alice).exists()


def test_who_may_not_manage_accounts_sees_themself_and_changes_nothing(
    developer: Tool, alice: User
) -> None:
    assert [one["username"] for one in developer("get", "/auth/users").json()] == ["bob"]
    assert problem(developer("get", "/auth/users/alice"), 404)
    assert [one["name"] for one in developer("get", "/auth/roles").json()] == ["USER"]
    for method, path, body in [
        ("post", "/auth/users", DEV),
        ("put", "/auth/users/bob", {"name": "x"}),
        ("delete", "/auth/users/bob", None),
        ("post", "/auth/users/bob/roles", {"name": "SUPER_USER"}),
        ("delete", "/auth/users/bob/roles/USER", None),
        ("post", "/auth/users/bob/claims", {"name": "LIST_VM"}),
        ("delete", "/auth/users/bob/claims/LIST_VM", None),
        ("post", "/auth/roles", {"name": "X"}),
        ("delete", "/auth/roles/USER", None),
        ("post", "/auth/roles/USER/claims", {"name": "CREATE"}),
        ("delete", "/auth/roles/USER/claims/LIST_VM", None),
        ("post", "/auth/claims", {"name": "X"}),
        ("delete", "/auth/claims/LIST", None),
    ]:
        assert is_unauthorized(developer(method, path, body)), (method, path)
    refused = AuditEvent.objects.filter(outcome="refused", action="compat.users.post").get()
    assert refused.actor_name == "bob"


def test_roles_of_an_account(admin: Tool, bob: User) -> None:
    roles = admin("get", "/auth/users/bob/roles").json()
    assert [role["name"] for role in roles] == ["USER"]
    given = admin("post", "/auth/users/bob/roles", {"name": "Auditor"})
    assert given.status_code == 201
    assert given.json()["name"] == "Auditor"
    assert admin("post", "/auth/users/bob/roles", {"name": "Auditor"}).status_code == 201
    assert admin("get", "/auth/users/bob").json()["roles"] == ["Auditor", "USER"]
    assert is_empty(admin("delete", f"/auth/users/bob/roles/{given.json()['id']}"))
    assert problem(admin("delete", "/auth/users/bob/roles/Auditor"), 404)
    assert problem(admin("post", "/auth/users/bob/roles", {"name": "NONE"}))
    assert problem(admin("post", "/auth/users/nobody/roles", {"name": "USER"}), 404)
    assert "administrator" in problem(admin("delete", "/auth/users/alice/roles/SUPER_USER"))


def test_claims_of_an_account_come_by_roles(admin: Tool, bob: User) -> None:
    claims = admin("get", "/auth/users/bob/claims").json()
    assert {"name", "id", "group", "resource", "action", "internal"} <= claims[0].keys()
    assert admin("post", "/auth/users/bob/claims", {"name": "LIST_VM"}).status_code == 201
    assert "role" in problem(admin("post", "/auth/users/bob/claims", {"name": "CREATE_USER"}))
    assert "role" in problem(admin("delete", "/auth/users/bob/claims/LIST_VM"))
    assert problem(admin("delete", "/auth/users/bob/claims/CREATE_USER"), 404)
    assert problem(admin("post", "/auth/users/bob/claims", {"name": "MADE_UP"}), 404)


def test_roles_are_made_given_claims_and_deleted(admin: Tool, bob: User) -> None:
    made = admin("post", "/auth/roles", {"name": "IOS_TEAM", "claims": ["LIST_CATALOG_MANIFEST"]})
    assert made.status_code == 201
    role = made.json()
    assert role.keys() == {"id", "name", "internal", "claims", "users"}
    assert role["internal"] is False
    names = {claim["name"] for claim in role["claims"]}
    assert "LIST_CATALOG_MANIFEST" in names
    assert "CREATE_VM" not in names
    assert admin("post", "/auth/users/bob/roles", {"name": "ios_team"}).status_code == 201

    given = admin("post", "/auth/roles/IOS_TEAM/claims", {"name": "CREATE_VM"})
    assert (given.status_code, given.json()["name"]) == (201, "CREATE_VM")
    shown = admin("get", f"/auth/roles/{role['id']}").json()
    assert "CREATE_VM" in {claim["name"] for claim in shown["claims"]}
    assert [user["username"] for user in shown["users"]] == ["bob"]
    assert shown["claims"] == admin("get", "/auth/roles/IOS_TEAM/claims").json()
    assert is_empty(admin("delete", "/auth/roles/IOS_TEAM/claims/CREATE_VM"))
    assert "CREATE_VM" not in str(admin("get", "/auth/roles/IOS_TEAM/claims").json())
    assert (
        "every account" in problem(admin("delete", "/auth/roles/IOS_TEAM/claims/READ_ONLY")).lower()
    )
    assert problem(admin("delete", "/auth/roles/IOS_TEAM/claims/MADE_UP"), 404)
    assert problem(admin("post", "/auth/roles/IOS_TEAM/claims", {"name": "EXECUTE_SSH"}))
    assert problem(admin("post", "/auth/roles", {"name": "Y", "claims": ["MADE_UP"]}))

    for name in ("IOS_TEAM", "ADMIN", "super_user", "Operator"):
        assert "exists" in problem(admin("post", "/auth/roles", {"name": name}))
    assert problem(admin("post", "/auth/roles/USER/claims", {"name": "LIST_USER"}))
    assert problem(admin("delete", "/auth/roles/SUPER_USER"))
    assert is_empty(admin("delete", "/auth/roles/IOS_TEAM"))
    assert problem(admin("get", "/auth/roles/IOS_TEAM"), 404)
    assert problem(admin("delete", "/auth/roles/IOS_TEAM"), 404)


def test_claims_are_listed_grouped_and_fixed(developer: Tool, admin: Tool) -> None:
    claims = developer("get", "/auth/claims").json()
    assert {"DELET_CACHE_ITEM", "DELETE_CACHE_ITEM", "READ_ONLY"} <= {one["id"] for one in claims}
    grouped = developer("get", "/auth/claims/grouped").json()
    assert sorted(
        claim["name"] for group in grouped for one in group["resources"] for claim in one["claims"]
    ) == sorted(CLAIMS)
    assert len({group["group"] for group in grouped}) == len(grouped)
    assert developer("get", "/auth/claims/list_vm").json()["name"] == "LIST_VM"
    assert problem(developer("get", "/auth/claims/MADE_UP"), 404)
    refused = admin("post", "/auth/claims", {"name": "MADE_UP"})
    assert "permission" in problem(refused, 501)
    assert "exists" in problem(admin("post", "/auth/claims", {"name": "LIST_VM"}))
    assert "fixed" in problem(admin("delete", "/auth/claims/LIST_VM"), 501)
    assert problem(admin("delete", "/auth/claims/MADE_UP"), 404)


def test_api_keys(admin: Tool, developer: Tool, bob: User) -> None:
    body = {
        "name": "pipeline",
        "key": "ci key",
        "secret": "s3cret",
        "expires_at": "2097-01-01T00:00:00Z",
    }
    made = developer("post", "/auth/api_keys", body)
    assert made.status_code == 201
    key = made.json()
    assert key == {
        "id": key["id"],
        "name": "pipeline",
        "key": "CI_KEY",
        "encoded": base64.b64encode(b"CI_KEY:s3cret").decode(),
        "expires_at": "2097-01-01T00:00:00Z",
        "user_id": str(bob.pk),
        "user_email": "bob",
        "user_name": "bob",
        "user_username": "bob",
    }
    assert Tool(X_Api_Key=key["encoded"])("get", "/auth/claims").status_code == 200
    shown = {name: value for name, value in key.items() if name != "encoded"}
    assert developer("get", "/auth/api_keys").json() == [shown]
    assert developer("get", f"/auth/api_keys/{key['id']}").json() == shown
    assert admin("get", "/auth/api_keys").json() == [shown]

    assert "exists" in problem(developer("post", "/auth/api_keys", body))
    for change in (
        {"expires_at": "whenever"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"key": "a:b"},
        {"key": "é"},
        {"key": ""},
        {"secret": ""},
        {"secret": "a:b"},
        {"name": ""},
        {"user_id": "nobody"},
        {"scopes": ["everything"]},
    ):
        wrong = body | {"key": "other"} | change
        assert problem(developer("post", "/auth/api_keys", wrong)), change
    assert ApiToken.objects.filter(key__isnull=False).count() == 1

    others = admin("post", "/auth/api_keys", body | {"key": "bobs", "user_id": str(bob.pk)})
    assert (others.status_code, others.json()["user_username"]) == (201, "bob")
    mine = admin(
        "post", "/auth/api_keys", body | {"key": "alices", "expires_at": "2097-01-01T00:00:00"}
    ).json()
    assert mine["expires_at"] == "2097-01-01T00:00:00Z"
    foreign = body | {"key": "k", "user_id": mine["user_id"]}
    assert problem(developer("post", "/auth/api_keys", foreign))  # nobody of whom Bob knows
    assert problem(developer("get", f"/auth/api_keys/{mine['id']}"), 404)
    assert problem(developer("delete", f"/auth/api_keys/{mine['id']}"), 404)
    assert problem(developer("put", f"/auth/api_keys/{mine['id']}/revoke"), 404)

    assert is_empty(developer("put", f"/auth/api_keys/{key['id']}/revoke"))
    assert is_unauthorized(Tool(X_Api_Key=key["encoded"])("get", "/auth/claims"))
    assert is_empty(admin("delete", f"/auth/api_keys/{others.json()['id']}"))
    assert problem(developer("get", f"/auth/api_keys/{key['id']}"), 404)
    assert developer("get", "/auth/api_keys").json() == []


def test_preferences_are_ones_own(developer: Tool, admin: Tool, bob: User) -> None:
    slug = "vms%3A%3AlocalColumns"
    value = {"type": "json", "value": '{"a": [1]}'}
    assert problem(developer("put", f"/user/configs/{slug}", value), 404)
    made = developer(
        "post", "/user/configs", {"slug": "vms::localColumns", "name": "Columns", **value}
    )
    assert made.status_code == 201
    row = made.json()
    assert row.keys() == {
        *("id", "user_id", "slug", "name", "type", "value", "created_at", "updated_at")
    }
    assert (row["slug"], row["type"], row["value"]) == ("vms::localColumns", "json", '{"a": [1]}')
    assert developer("post", "/user/configs", {"slug": "vms::localColumns"}).status_code == 200
    put = developer("put", f"/user/configs/{slug}", {"type": "json", "value": {"b": 2}})
    assert (put.status_code, put.json()["value"], put.json()["name"]) == (
        200,
        '{"b": 2}',
        "Columns",
    )
    for reference in (slug, row["id"]):
        assert developer("get", f"/user/configs/{reference}").json()["id"] == row["id"]
        assert problem(admin("get", f"/user/configs/{reference}"), 404)
        assert problem(admin("delete", f"/user/configs/{reference}"), 404)
    assert [one["slug"] for one in developer("get", "/user/configs").json()] == [
        "vms::localColumns"
    ]
    assert admin("get", "/user/configs").json() == []
    for wrong in (
        {"slug": ""},
        {"slug": "x" * 101},
        {"slug": "x", "type": "colour"},
        {"slug": "x", "type": "json", "value": "{"},
        {"slug": "x", "type": "int", "value": "many"},
        {"slug": "x", "type": "bool", "value": "perhaps"},
        {"slug": "x", "value": "y" * 70_000},
        {"slug": "x", "value": "\0"},
    ):
        assert problem(developer("post", "/user/configs", wrong)), wrong
    assert is_empty(developer("delete", f"/user/configs/{slug}"))
    assert problem(developer("get", f"/user/configs/{slug}"), 404)

    Preference.objects.bulk_create(
        [Preference(user=bob, slug=f"s{number}", name="s", kind="int") for number in range(200)]
    )
    assert "at most" in problem(developer("post", "/user/configs", {"slug": "x"}))
    assert developer("post", "/user/configs", {"slug": "s1", "value": 3}).json()["value"] == "3"


@pytest.mark.parametrize(
    ("path", "most"), [("/auth/users", 6), ("/auth/roles", 8), ("/auth/api_keys", 5)]
)
def test_lists_do_not_ask_once_per_row(
    admin: Tool, path: str, most: int, django_assert_max_num_queries: Any
) -> None:
    for number in range(5):
        body = DEV | {"username": f"u{number}", "email": f"u{number}@example.com"}
        assert admin("post", "/auth/users", body).status_code == 201
    with django_assert_max_num_queries(most):
        assert admin("get", path).status_code == 200
