"""Callers of the API: an account with a fresh token, or a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, connections
from django.test import Client

from tests.support.product import fresh_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from accounts.models import User

BASE = "/api/v2/"
Answer = Any  # the test client adds json() to a response


class Api:
    """A caller with a token. Paths are relative to `/api/v2/`; bodies are JSON."""

    def __init__(self, token: str = "", client: Client | None = None) -> None:
        self.client = client or Client()
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        options: dict[str, Any] = {"headers": self.headers | named}
        if body is not None:
            options |= {"data": body, "content_type": "application/json"}
        url = path if path.startswith(("/", "http")) else BASE + path
        return getattr(self.client, method)(url, **options)

    def get(self, path: str, **headers: str) -> Answer:
        return self("get", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self("post", path, {} if body is None else body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Answer:
        return self("patch", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Answer:
        return self("delete", path, **headers)


def make_token(user: User, *scopes: str) -> str:
    from accounts.actors import Actor
    from accounts.tokens import create_token

    return create_token(Actor(user=user), name="test", scopes=scopes or ["admin"])[1]


@pytest.fixture
def api_of() -> Callable[..., Api]:
    """Return a maker of callers: `api_of(alice)`, `api_of(bob, "read")`."""
    return lambda user, *scopes: Api(make_token(user, *scopes))


@pytest.fixture
def stranger() -> Api:
    return Api()


@pytest.fixture
def admin(alice: User) -> Api:
    return Api(make_token(alice))


@pytest.fixture
def developer(bob: User) -> Api:
    return Api(make_token(bob))


def is_problem(response: Answer, status: int, code: str | None = None) -> bool:
    """Assert the shape of a problem; return True."""
    assert response.status_code == status, (response.status_code, response.content)
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert {"type", "title", "status", "detail", "code"} <= body.keys()
    assert body.keys() <= {"type", "title", "status", "detail", "code", "errors"}
    assert body["status"] == status
    assert body["detail"].strip()
    for texts in body.get("errors", {}).values():
        assert texts
        assert all(isinstance(text, str) for text in texts)
    if code is not None:
        assert body["code"] == code, body
    return True


@pytest.fixture(autouse=True)
def routes(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.api.urls"


@pytest.fixture
def file_database(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """Let threads meet in a database as the product has it: SQLite in a file, or PostgreSQL.

    The in-memory database of SQLite tests is one connection to all threads.
    """
    if connection.vendor != "sqlite":
        yield
        return
    settings_dict = connections.settings["default"]
    before = settings_dict["NAME"]
    connection.close()
    original = connections["default"]
    with fresh_database(tmp_path) as url:
        settings_dict["NAME"] = url.removeprefix("sqlite:///")
    connections["default"] = connections.create_connection("default")
    yield
    connections["default"].close()
    settings_dict["NAME"] = before
    connections["default"] = original
