"""Callers of the compatible API: a tool that has logged in, or a stranger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from tests.api.conftest import make_token
from tests.contract.running import Site, make_site
from tests.support.product import OwnRedis, running_product
from tests.support.simulation import simulated_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from accounts.models import User

Answer = Any  # the test client adds json() to a response


class Tool:
    """A client of the contract. Paths are relative to `/api/v1`; bodies are JSON."""

    def __init__(self, **headers: str) -> None:
        self.client = Client()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def __call__(
        self, method: str, path: str, body: Any = None, *, kind: str = "", **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        options: dict[str, Any] = {"headers": self.headers | named}
        if body is not None:
            options |= {"data": body, "content_type": kind or "application/json"}
        url = path if path.startswith("/api") else f"/api/v1{path}"
        return getattr(self.client, method.lower())(url, **options)


def is_error(response: Answer, status: int, *, diagnostics: bool = False) -> bool:
    """Assert the first shape of errors, or with `diagnostics` the second; return True."""
    assert response.status_code == status, (response.status_code, response.content)
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert body["code"] == status
    assert body["message"].strip()
    assert set(body) == ({"message", "code", "diagnostics"} if diagnostics else {"message", "code"})
    if diagnostics:
        told = body["diagnostics"]
        assert told["path"] == []
        assert told["errors"][0]["code"] == str(status)
    return True


def is_unauthorized(response: Answer) -> bool:
    """Assert the third shape of errors; return True."""
    assert response.status_code == 401, (response.status_code, response.content)
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) == {"error", "error_description"}
    assert body["error"] == "unauthorized_client"
    assert body["error_description"].strip()
    return True


def is_empty(response: Answer, status: int = 202) -> bool:
    """Assert an answer without a body; return True."""
    assert response.status_code == status, (response.status_code, response.content)
    assert response.content == b""
    return True


@pytest.fixture
def tool_of(db: None) -> Callable[..., Tool]:
    """Return a maker of tools: `tool_of(alice)`, `tool_of(bob, "read")`, with a bearer token."""
    return lambda user, *scopes: Tool(Authorization=f"Bearer {make_token(user, *scopes)}")


@pytest.fixture
def stranger(db: None) -> Tool:
    return Tool()


@pytest.fixture
def admin(alice: User, tool_of: Callable[..., Tool]) -> Tool:
    return tool_of(alice)


@pytest.fixture
def developer(bob: User, tool_of: Callable[..., Tool]) -> Tool:
    return tool_of(bob)


SETTINGS = {"COMPAT_QUEUE_SECONDS": "2", "SHARED_FOLDER_PATHS": "/Users/Shared/ci"}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The running product with its pool, shared by the session. Tests leave no VM behind."""
    folder = tmp_path_factory.mktemp("contract")
    server = OwnRedis(folder)
    server.start()
    with (
        simulated_hosts(3, "--arch", "mixed") as simulation,
        running_product(folder, server, **SETTINGS) as product,
    ):
        yield make_site(product, simulation)
    server.stop()
