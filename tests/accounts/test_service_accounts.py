"""Service accounts: made, described, given roles, deactivated, deleted; they never sign in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from accounts import revocation, tokens
from accounts.actors import Actor
from accounts.models import ApiToken, AuditEvent, Role, User
from events.models import Webhook
from tests.api.conftest import Api, is_problem, make_token

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db


@pytest.fixture
def robot(alice: User) -> User:
    account = User.objects.create_user(username="robot", kind=User.Kind.SERVICE)
    account.groups.add(Role.objects.get(group__name="Developer").group)
    return account


def test_it_never_signs_in_whatever_password_it_has(client: Client, robot: User) -> None:
    robot.set_password("correct horse battery")  # as only the database's administrator could
    robot.save()
    answer = client.post(
        "/accounts/login/", {"login": "robot", "password": "correct horse battery"}
    )
    assert b'role="alert"' in answer.content
    assert client.get("/").status_code == 302
    assert "_auth_user_id" not in client.session


def test_the_api_makes_describes_deactivates_and_deletes_them(alice: User) -> None:
    admin = Api(make_token(alice))
    asked = {"username": "ci", "roles": ["Developer"], "description": "Nightly builds: team blue"}
    made = admin.post("service-accounts/", asked).json()
    path = f"service-accounts/{made['id']}/"
    assert (made["kind"], made["description"]) == ("service", asked["description"])
    assert admin.patch(path, {"description": "gone"}).json()["description"] == "gone"
    assert admin.patch(path, {"roles": ["Auditor"], "active": False}).json()["roles"] == ["Auditor"]
    assert AuditEvent.objects.get(action="user.described").data == {
        "before": asked["description"],
        "after": "gone",
    }
    assert admin.delete(path).status_code == 204
    assert is_problem(admin.get(path), 404)
    assert AuditEvent.objects.get(action="user.deleted").subject_name == "ci"


def test_deleting_takes_tokens_grants_and_webhooks_along(
    alice: User, bob: User, robot: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = Api(make_token(alice))
    text = make_token(robot, "read")
    Webhook.objects.create(
        owner_id=robot.pk, name="hook", url="http://10.0.0.1/", secret="whsec_", cursor=0
    )
    hit = revocation.Hit("vm", robot.pk, "build-7", "running", queued=False)
    with monkeypatch.context() as patched:
        patched.setattr(revocation, "preview", lambda revoked: [hit])
        refused = admin.delete(f"service-accounts/{robot.pk}/")
        assert is_problem(refused, 409, "has_vms")
        assert "build-7" in refused.json()["detail"]
    assert is_problem(admin.delete(f"service-accounts/{bob.pk}/"), 404)
    assert is_problem(Api(text).delete(f"service-accounts/{robot.pk}/"), 403)
    assert admin.delete(f"service-accounts/{robot.pk}/").status_code == 204
    assert is_problem(Api(text).get("me/"), 401, "bad_token")
    assert not ApiToken.objects.filter(name="test", user__username="robot").exists()
    assert not Webhook.objects.exists()


def test_pages(as_: Callable[..., Any], alice: User, audrey: User, bob: User, robot: User) -> None:
    tokens.create_token(Actor(robot), name="nightly", scopes=["vms"])
    page = f"/service-accounts/{robot.pk}/"
    assert as_(bob).get(page).status_code == 404
    assert as_(bob).get("/service-accounts/").status_code == 403
    seen = as_(audrey).get(page).content.decode()
    assert "nightly" in seen
    assert "Describe" not in seen
    assert as_(audrey).post(f"{page}delete/").status_code == 403
    client = as_(alice)
    assert client.get(f"/users/{robot.pk}/").url == page
    assert b"robot" in client.get("/service-accounts/").content
    made = client.post(
        "/service-accounts/new/",
        {
            "username": "ci",
            "description": "Builds",
            "roles": [Role.objects.get(group__name="Developer").pk],
        },
    )
    account = User.objects.get(username="ci")
    assert made.url == f"/service-accounts/{account.pk}/"
    assert (account.kind, account.description) == ("service", "Builds")
    assert not account.has_usable_password()
    client.post(f"{made.url}describe/", {"description": "Releases"})
    assert b"Releases" in client.get(made.url).content
    form = client.get(f"/tokens/new/?user={account.pk}").content.decode()
    assert f'value="{account.pk}" selected' in form
    assert client.get(f"{made.url}delete/").status_code == 200
    assert client.post(f"{made.url}delete/").url == "/service-accounts/"
    assert not User.objects.filter(username="ci").exists()
