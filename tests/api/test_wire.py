"""What every endpoint has in common: problems, spellings, content types, pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DataError, IntegrityError, OperationalError

from accounts.models import AuditEvent, User
from tests.api.conftest import Api, is_problem

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db
MISSING = "01890000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("path", ["me", "me/", "users", "users/", "jobs", "events", "audit/"])
def test_both_spellings_answer_without_a_redirect(admin: Api, path: str) -> None:
    response = admin.get(path)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"


def test_posts_work_without_the_slash(admin: Api) -> None:
    made = admin.post("users", {"username": "dora", "roles": []})
    assert made.status_code == 201
    assert made["Location"].endswith(f"/users/{made.json()['id']}/")


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense", "*/*"])
def test_json_whatever_is_accepted(admin: Api, accept: str) -> None:
    assert admin.get("me/", Accept=accept)["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "path", ["", "nothing/", "users/x/y/", "hosts/1/", "vms/%00/", "vms/%0A/stop/"]
)
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_what_does_not_exist_is_a_problem(admin: Api, path: str, method: str) -> None:
    assert is_problem(admin(method, path), 404, "not_found")


def test_strangers_get_401_everywhere(stranger: Api, db: None) -> None:
    for path in ("users/", "jobs/", "hosts/", "vms/", "nothing/", "openapi.json"):
        response = stranger.get(path)
        assert is_problem(response, 401, "not_authenticated")
        assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path"),
    [("put", "users/"), ("delete", "users/"), ("patch", "me/"), ("post", "audit/")],
)
def test_methods_that_are_none_are_405(admin: Api, method: str, path: str) -> None:
    response = admin(method, path)
    assert is_problem(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]


@pytest.mark.parametrize(
    "body", ["{", "", "[1,", '{"username": NaN}', "\x00", "[" * 100_000, '{"a": 1e999}', "\udcff"]
)
def test_malformed_json_is_400(admin: Api, body: str) -> None:
    response = admin.client.post(
        "/api/v2/users/",
        data=body.encode("utf-8", "surrogateescape"),
        content_type="application/json",
        headers=admin.headers,
    )
    assert is_problem(response, 400)


def test_other_media_types_are_415(admin: Api) -> None:
    response = admin.client.post(
        "/api/v2/users/", data="username=x", content_type="text/plain", headers=admin.headers
    )
    assert is_problem(response, 415, "unsupported_media_type")


def test_a_large_body_is_413(admin: Api, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert is_problem(admin.post("users/", {"username": "x" * 2000}), 413, "too_large")


def test_names_that_utf8_cannot_hold_are_named(admin: Api) -> None:
    body = json.dumps({"username": "x", "roles": [], "\ud800": 1})
    response = admin.client.post(
        "/api/v2/users/", data=body, content_type="application/json", headers=admin.headers
    )
    assert is_problem(response, 400)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OperationalError("database is locked"), 503, "store_away"),
        (IntegrityError("UNIQUE"), 409, "collision"),
        (DataError("varchar(8)"), 400, "invalid"),
        (RuntimeError("a secret"), 500, "internal_error"),
    ],
)
def test_trouble_inside_tells_nothing_of_the_inside(
    admin: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("accounts.users.create_user", fail)
    response = admin.post("users/", {"username": "dora", "roles": []})
    assert is_problem(response, status, code)
    assert str(error) not in response.content.decode()
    assert (status == 503) == ("Retry-After" in response)


def test_a_refusal_is_audited_though_its_transaction_rolled_back(developer: Api) -> None:
    refused = developer.post("users/", {"username": "x", "roles": []}, Idempotency_Key="k")
    assert is_problem(refused, 403)
    event = AuditEvent.objects.get(outcome="refused")
    assert event.action == "users.create"
    assert event.token_name == "test"
    assert event.address == "127.0.0.1"


def _walk(api: Api, path: str) -> list[str]:
    names: list[str] = []
    url: str | None = path
    while url:
        page = api.get(url).json()
        names += [row["username"] for row in page["results"]]
        url = page["next"]
    return names


def test_pages_neither_skip_nor_repeat_while_rows_come(admin: Api) -> None:
    made = [User.objects.create(username=f"u{number:02}") for number in range(7)]
    first = admin.get("users/?page_size=3").json()
    assert first["previous"] is None
    User.objects.create(username="late")
    rest = _walk(admin, first["next"])
    seen = [row["username"] for row in first["results"]] + rest
    assert seen == [user.username for user in reversed(made)] + ["alice"]

    second = admin.get(first["next"]).json()
    back = admin.get(second["previous"]).json()
    assert back["results"] == first["results"]
    assert [row["username"] for row in admin.get(back["previous"]).json()["results"]] == ["late"]


def test_page_size_is_bounded(admin: Api) -> None:
    User.objects.bulk_create([User(username=f"u{number}") for number in range(205)])
    assert len(admin.get("users/").json()["results"]) == 50
    assert len(admin.get("users/?page_size=999").json()["results"]) == 200


@pytest.mark.parametrize(
    "query",
    [
        "page_size=0",
        "page_size=-1",
        "page_size=x",
        "page_size=99999999999999999999",
        "page_size=%00",
        "page_size=²",
        "before=x",
        "before=%00",
        "after=",
        f"before={MISSING}&after={MISSING}",
    ],
)
def test_bad_pages_are_400(admin: Api, query: str) -> None:
    assert is_problem(admin.get(f"users/?{query}"), 400)


def test_a_page_behind_the_end_is_empty(admin: Api) -> None:
    page = admin.get(f"users/?before={MISSING}").json()
    assert page == {"next": None, "previous": None, "results": []}


def test_filters_stay_in_the_links(admin: Api, bob: User) -> None:
    User.objects.create(username="carl")
    page = admin.get("users/?page_size=1&active=true").json()
    assert "active=true" in page["next"]


@pytest.mark.parametrize("tag", ['W/"stale"', '"stale"', "nonsense"])
def test_a_stale_if_match_is_412_and_changes_nothing(admin: Api, bob: User, tag: str) -> None:
    refused = admin.patch(f"users/{bob.pk}/", {"active": False}, If_Match=tag)
    assert is_problem(refused, 412, "stale")
    bob.refresh_from_db()
    assert bob.is_active


def test_the_etag_that_was_read_lets_one_change_through(admin: Api, bob: User) -> None:
    tag = admin.get(f"users/{bob.pk}/")["ETag"]
    changed = admin.patch(f"users/{bob.pk}/", {"roles": ["Auditor"]}, If_Match=tag)
    assert changed.status_code == 200
    assert changed["ETag"] != tag
    assert is_problem(admin.patch(f"users/{bob.pk}/", {"roles": []}, If_Match=tag), 412)
    assert admin.patch(f"users/{bob.pk}/", {"roles": []}, If_Match="*").status_code == 200


def test_the_docs_page_needs_a_login_and_no_inline_code(
    client: Any, alice: User, settings: Any
) -> None:
    assert client.get("/api/docs/").status_code == 302
    client.force_login(alice)
    page = client.get("/api/docs/")
    assert page.status_code == 200
    text = page.content.decode()
    assert "<style" not in text
    assert text.count("<script") == text.count("<script src=")
    script = client.get("/api/docs/?script=")
    assert script["Content-Type"].startswith("application/javascript")


def test_the_openapi_document_has_every_problem(
    admin: Api, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    with django_assert_max_num_queries(6):
        document = admin.get("openapi.json").json()
    assert document["openapi"].startswith("3.1")
    create = document["paths"]["/api/v2/users/"]["post"]
    assert create["operationId"] == "users_create"
    assert {"201", "400", "401", "403", "409", "422", "429", "503"} <= create["responses"].keys()
    assert "application/problem+json" in create["responses"]["422"]["content"]
    assert any(parameter["name"] == "Idempotency-Key" for parameter in create["parameters"])
    ids = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    assert len(ids) == len(set(ids))
