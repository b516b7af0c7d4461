"""The drill for a leaked token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from accounts import leaks, tokens
from accounts.actors import Actor
from accounts.models import ApiToken, AuditEvent, User
from orchestrator.refusals import Forbidden, NotFound
from tests.api.conftest import Api, is_problem, make_token

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db


@pytest.fixture
def leaked(bob: User) -> list[str]:
    """Two tokens of Bob, one of which was busy from elsewhere."""
    texts = [make_token(bob, "admin"), make_token(bob, "read")]
    api = Api(texts[0])
    for number in range(3):
        made = api.client.post(
            "/api/v2/tokens/",
            {"name": f"sneaky-{number}", "scopes": ["read"]},
            content_type="application/json",
            headers=api.headers,
            REMOTE_ADDR="192.0.2.66",
        )
        assert made.status_code == 201
    refused = api.client.post(
        "/api/v2/users/",
        {"username": "evil", "roles": []},
        content_type="application/json",
        headers=api.headers,
        REMOTE_ADDR="192.0.2.66",
    )
    assert refused.status_code == 403
    return texts


def test_the_api_shows_what_they_did_and_revokes_them_all(
    alice: User, bob: User, audrey: User, leaked: list[str]
) -> None:
    admin = Api(make_token(alice))
    path = f"users/{bob.pk}/leaked-tokens/"
    seen = admin.get(path).json()
    assert len(seen["tokens"]) == 5
    told = {(row["action"], row["outcome"]): row["count"] for row in seen["activity"]["actions"]}
    assert told == {("token.created", "done"): 3, ("users.create", "refused"): 1}
    assert [row["address"] for row in seen["activity"]["addresses"]] == ["192.0.2.66"]
    assert {row["subject_name"] for row in seen["activity"]["objects"]} >= {"sneaky-0", "sneaky-2"}
    assert is_problem(Api(make_token(audrey)).post(path, {"running_vms": "keep"}), 403)

    done = admin.post(path, {"running_vms": "keep"}, Idempotency_Key="k").json()
    assert {token["id"] for token in done["tokens"]} == {t["id"] for t in seen["tokens"]}
    for text in leaked:
        assert is_problem(Api(text).get("me/"), 401, "bad_token")
    assert not ApiToken.objects.live().filter(user=bob).exists()
    assert AuditEvent.objects.filter(action="token.revoked").count() == 5
    assert len(AuditEvent.objects.get(action="user.tokens_revoked").data["tokens"]) == 5
    again = admin.post(path, {"running_vms": "keep"}, Idempotency_Key="k")
    assert (again.status_code, again.json()["tokens"]) == (200, [])
    assert ApiToken.objects.live().filter(user=alice).exists()

    lines = b"".join(admin.get(f"{path}report/").streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    head, *events = map(json.loads, lines)
    assert (head["account"]["username"], len(head["tokens"])) == ("bob", 5)
    assert {event["action"] for event in events} == {"token.created", "users.create"}
    assert AuditEvent.objects.filter(action="user.tokens_reported").exists()
    for text in leaked:
        assert text.rpartition("_")[2] not in str(lines)


def test_the_page_does_it_with_one_button(
    as_: Callable[..., Any], alice: User, bob: User, charlie: User, leaked: list[str]
) -> None:
    page = f"/users/{bob.pk}/leaked-tokens/"
    assert as_(charlie).get(page).status_code == 404
    shown = as_(alice).get(page).content.decode()
    for part in ("users.create", "192.0.2.66", "sneaky-1", f"actor_id={bob.pk}", "report/"):
        assert part in shown
    # One may do it to one's own account.
    client = as_(bob)
    assert "Revoke all tokens" in client.get(page).content.decode()
    assert client.post(page, {}).status_code == 422
    assert client.post(page, {"running_vms": "keep"}).url == page
    assert not ApiToken.objects.live().filter(user=bob).exists()
    assert "No token of this account works" in client.get(page).content.decode()
    report = client.get(f"{page}report/")
    assert report["Content-Disposition"].startswith("attachment")
    b"".join(report.streaming_content)


def test_who_may(alice: User, bob: User, audrey: User, charlie: User) -> None:
    tokens.create_token(Actor(bob), name="ci", scopes=["read"])
    reading = tokens.create_token(Actor(bob), name="reads", scopes=["read"])[0]
    for actor, refusal in (
        (Actor(charlie), NotFound),
        (Actor(audrey), Forbidden),
        (Actor(bob, reading), Forbidden),
    ):
        with pytest.raises(refusal):
            leaks.revoke_all(actor, bob)
    assert ApiToken.objects.live().filter(user=bob).count() == 2
    with pytest.raises(NotFound):
        leaks.activity(Actor(charlie), bob)
