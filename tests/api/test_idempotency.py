from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, User
from orchestrator.api.idempotency import forget_expired
from orchestrator.api.models import IdempotencyKey
from tests.api.conftest import Api, is_problem, make_token

pytestmark = pytest.mark.django_db
DORA = {"username": "dora", "roles": ["Developer"]}
KEY = {"Idempotency_Key": "run-17"}


def test_the_same_request_has_one_effect_and_the_current_representation(admin: Api) -> None:
    first = admin.post("users/", DORA, **KEY)
    assert first.status_code == 201
    assert "Idempotent-Replayed" not in first
    admin.patch(f"users/{first.json()['id']}/", {"roles": ["Auditor"]})

    again = admin.post("users", DORA, **KEY)  # the other spelling is the same request
    assert again.status_code == 201
    assert again["Idempotent-Replayed"] == "true"
    assert again["Location"] == first["Location"]
    assert again.json()["roles"] == ["Auditor"]
    assert User.objects.filter(username="dora").count() == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("users/", {"username": "other", "roles": []}), ("service-accounts/", DORA)],
)
def test_another_request_with_the_key_is_422(admin: Api, path: str, body: Any) -> None:
    admin.post("users/", DORA, **KEY)
    assert is_problem(admin.post(path, body, **KEY), 422, "idempotency_key_reused")


def test_only_successes_are_stored(admin: Api) -> None:
    assert is_problem(admin.post("users/", {"username": "", "roles": []}, **KEY), 400)
    assert is_problem(admin.post("users/", DORA | {"username": "alice"}, **KEY), 400)
    assert not IdempotencyKey.objects.exists()
    assert admin.post("users/", DORA, **KEY).status_code == 201


def test_keys_are_unique_per_account_and_key(admin: Api, audrey: User) -> None:
    from django.contrib.auth.models import Group

    audrey.groups.add(Group.objects.get(name="Administrator"))
    other = Api(make_token(audrey))
    assert admin.post("users/", DORA, **KEY).status_code == 201
    assert other.post("users/", DORA | {"username": "d2"}, **KEY).status_code == 201


def test_rights_are_checked_again(admin: Api, alice: User) -> None:
    first = admin.post("users/", DORA, **KEY)
    assert is_problem(Api(make_token(alice, "read")).post("users/", DORA, **KEY), 403)
    alice.groups.clear()
    assert is_problem(admin.post("users/", DORA, **KEY), 403)
    ApiToken.objects.update(revoked_at=timezone.now())
    assert is_problem(admin.post("users/", DORA, **KEY), 401)
    assert first.status_code == 201


def test_a_secret_is_not_shown_twice(admin: Api) -> None:
    body = {"name": "ci", "scopes": ["read"]}
    assert admin.post("tokens/", body, **KEY).status_code == 201
    before = ApiToken.objects.count()
    assert is_problem(admin.post("tokens/", body, **KEY), 409, "shown_once")
    assert ApiToken.objects.count() == before


@pytest.mark.parametrize("key", ["", "x" * 129, "with space", "tab\there", "é", "\x7f"])
def test_a_bad_key_is_400(admin: Api, key: str) -> None:
    response = admin.post("users/", DORA, Idempotency_Key=key)
    assert is_problem(response, 400, "bad_idempotency_key")
    assert not User.objects.filter(username="dora").exists()


def test_the_longest_key_is_taken(admin: Api) -> None:
    assert admin.post("users/", DORA, Idempotency_Key="~" * 128).status_code == 201


def test_a_key_is_forgotten_after_a_day(admin: Api) -> None:
    admin.post("users/", DORA, **KEY)
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    other = admin.post("users/", DORA | {"username": "d2"}, **KEY)
    assert other.status_code == 201
    assert IdempotencyKey.objects.count() == 1
    assert forget_expired() == 0
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert forget_expired() == 1


def test_of_two_at_once_the_loser_waits_and_replays(file_database: None) -> None:
    from tests.conftest import _account

    token = make_token(_account("alice", "Administrator"))
    for turn in range(5):
        together = threading.Barrier(4)
        answers: list[Any] = []

        def ask(turn: int = turn, together: Any = together, answers: Any = answers) -> None:
            api = Api(token, Client())
            together.wait()
            body = {"username": f"racer{turn}", "roles": []}
            try:
                answers.append(api.post("users/", body, Idempotency_Key=f"race-{turn}"))
            finally:
                connections.close_all()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [201] * 4
        assert len({answer.json()["id"] for answer in answers}) == 1
        replays = [answer for answer in answers if "Idempotent-Replayed" in answer]
        assert len(replays) == 3
        assert User.objects.filter(username=f"racer{turn}").count() == 1
