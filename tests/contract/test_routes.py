"""Every route of the contract: in the docs, routed as they say, and closed to strangers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import resolve

from accounts.claims import CLAIMS
from accounts.models import AuditEvent
from compat.wire.endpoints import Nothing, Refused
from tests.contract.conftest import Tool, is_error, is_unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "parallels-compatibility.md"
# Taken from the contract: method, path, success codes.
ROUTES = [line.split() for line in (HERE / "routes.txt").read_text().splitlines()]
PUBLIC = {
    ("POST", "/auth/token"),
    ("POST", "/auth/token/validate"),
    ("GET", "/health/system"),
    ("GET", "/orchestrator/enrollment-token/{token}/validate"),
}
SOCKETS = {(method, path) for method, path, codes in ROUTES if codes.startswith("101")} - {
    ("POST", "/ws/unsubscribe"),
    ("GET", "/logs/stream"),
}
# What somebody without any role may do: with what is their own.
OWN = {
    ("POST", "/auth/api_keys"),
    ("POST", "/user/configs"),
    ("POST", "/ws/unsubscribe"),
    ("DELETE", "/jobs/cleanup"),
}


def documented() -> dict[tuple[str, str], str]:
    rows = re.findall(
        r"^\| (GET|POST|PUT|PATCH|DELETE) \| `([^`]+)` \| ([^|]+) \| ([^|]*)\|$",
        DOCS.read_text(),
        re.MULTILINE,
    )
    found = {(method, path): what.strip() for method, path, what, _ in rows}
    assert len(rows) == len(found), "A route is written down twice."
    for method, path, what, why in rows:
        assert why.strip() or what.strip() == "same", f"{method} {path}: say why."
    return found


def concrete(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "x", path)


def test_the_docs_have_every_route_of_the_contract_and_say_what_the_router_does() -> None:
    table = documented()
    assert table.keys() == {(method, path) for method, path, _ in ROUTES}
    wrong = []
    for (method, path), what in table.items():
        view = resolve(f"/api/v1{concrete(path)}").func.view_class
        handler = getattr(view, method.lower(), None)
        if what == "not offered":
            continue  # asked below
        if (method, path) in SOCKETS:
            continue  # in the front: tests/contract/test_hub.py
        if view is Nothing or handler is None or handler is getattr(Refused, method.lower(), None):
            wrong.append(f"{method} {path} is {what} and not routed")
    assert wrong == []


def test_what_is_not_offered_says_so(admin: Tool) -> None:
    refused = [route for route, what in documented().items() if what == "not offered"]
    assert len(refused) > 20
    made = admin("post", "/catalog-managers", {"name": "x", "url": "https://catalog.example"})
    assert made.status_code == 200
    for method, path in refused:
        path = path.replace("/auth/claims/{id}", "/auth/claims/LIST_VM")
        body = None if method == "GET" else {"name": "free", "local_path": "/x"}
        diagnostics = path.startswith("/auth")
        assert is_error(admin(method, concrete(path), body), 501, diagnostics=diagnostics), path


def test_the_docs_have_every_claim() -> None:
    text = DOCS.read_text()
    assert [name for name in CLAIMS if not re.search(rf"\b{name}\b", text)] == []


def test_strangers_get_no_further_than_logging_in(stranger: Tool) -> None:
    for method, path, _ in ROUTES:
        if (method, path) in PUBLIC | SOCKETS:
            continue
        response = stranger(method, concrete(path), None if method == "GET" else {"name": "x"})
        assert is_unauthorized(response), (method, path)


def test_who_has_no_role_changes_nothing_of_others_and_sees_nothing(
    tool_of: Callable[..., Tool], charlie: User, alice: User
) -> None:
    """And no answer, whatever goes wrong, tells of the inside."""
    tool = tool_of(charlie)
    junk: dict[str, Any] = {"name": "x", "host": "http://x.example", "command": "id", "token": "x"}
    for method, path, _ in ROUTES:
        if (method, path) in SOCKETS:
            continue
        response = tool(method, concrete(path), None if method == "GET" else junk)
        told = response.content.decode()
        assert not re.search(r"\.py\b|Traceback|line \d+|site-packages", told), (method, path)
        assert response.status_code != 500, (method, path, told)
        if method != "GET":
            assert response.status_code >= 400 or (method, path) in OWN, (method, path, told)
        assert "alice" not in told, (method, path)
        if response.content and response.status_code < 400:
            assert response["Content-Type"] == "application/json"
    done = AuditEvent.objects.filter(outcome="done", actor_name="charlie")
    assert set(done.values_list("action", flat=True)) == {"token.created"}  # by the fixture


@pytest.mark.parametrize("path", ["/machines/x/start", "/orchestrator/machines/x/stop"])
def test_nothing_is_done_by_a_link_without_a_token(client: Any, alice: User, path: str) -> None:
    """State verbs by GET are safe from other sites' pages: a session is no credential here."""
    client.force_login(alice, "allauth.account.auth_backends.AuthenticationBackend")
    assert client.get(f"/api/v1{path}").status_code == 401
