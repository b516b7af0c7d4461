"""What a stranger reaches of the packages' addresses, and what the front answers by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.urls import reverse

from orchestrator.urls import allauth_urls

if TYPE_CHECKING:
    from django.test import Client

OPEN = {"account_login", "account_inactive", "sso_login", "sso_callback"} | {
    "account_forgotten",
    "account_reset_password_done",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
}
TO_LOGIN = {
    pattern.name: reverse(
        pattern.name, kwargs={"pk": 1} if "<int:pk>" in str(pattern.pattern) else {}
    )
    for pattern in allauth_urls
    if pattern.name not in OPEN
}
# What allauth offers and this product does not.
ABSENT = [
    "signup/",
    "email/",
    "confirm-email/",
    "confirm-email/abc:def/",
    "password/set/",
    "password/reset/",
    "password/forgotten/",  # until mail is configured
    "password/reset/key/1-abc/more/",
    "sessions/",
    "login/code/",
    "login/code/confirm/",
    "phone/verify/",
    "phone/change/",
    "signup/passkey/",
    "2fa/trust/",
    "2fa/webauthn/signup/",
    "3rdparty/",
    "3rdparty/signup/",
    "3rdparty/login/cancelled/",
    "social/signup/",
    "social/connections/",
    "",
]


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(TO_LOGIN))
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_stranger_is_sent_to_sign_in(client: Client, name: str, method: str) -> None:
    answer = getattr(client, method)(TO_LOGIN[name])
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("account_login"))


@pytest.mark.django_db
@pytest.mark.parametrize("path", ABSENT)
@pytest.mark.parametrize("method", ["get", "post"])
def test_there_is_no_other_way_in(client: Client, path: str, method: str) -> None:
    assert getattr(client, method)(f"/accounts/{path}").status_code == 404


@pytest.mark.django_db
def test_login_page_is_open_and_offers_no_sign_up(client: Client) -> None:
    answer = client.get(reverse("account_login"))
    assert answer.status_code == 200
    assert b"signup" not in answer.content


@pytest.mark.django_db
def test_health_has_the_real_addresses(client: Client) -> None:
    assert client.get("/healthz").content == b"ok\n"
    assert client.get("/readyz").json()["checks"]["database"] == "ok"


@pytest.mark.django_db
def test_an_unknown_page_is_a_page_and_an_unknown_endpoint_a_problem(client: Client) -> None:
    assert client.get("/nowhere/")["Content-Type"].startswith("text/html")
    answer = client.get("/api/docs/nowhere/")
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
