"""What holds on every route: no write by GET, CSRF on every write of a session, strict headers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from django.apps import apps
from django.test import Client
from django.urls import reverse

from orchestrator.urls import allauth_urls
from tests.api.conftest import make_token
from tests.routes.test_table import CASES, ROUTES, address, client_of

if TYPE_CHECKING:
    from django.db import models

    from tests.routes.conftest import World

# Who asked, who was refused, and when a token was used: a read leaves these, and nothing else.
LEFT_BY_READS = {"accounts.AuditEvent", "sessions.Session", "usersessions.UserSession"}
LAST_USE = {"last_used_at", "last_used_address"}
GETS = [name for name, method in CASES if method == "GET"]
FILES = {"api:artifacts"}  # whose body is a file itself
PARTS = {"pk": 1, "uidb36": "1", "key": "unknown"}
ALLAUTH = [
    reverse(str(one.name), kwargs={name: PARTS[name] for name in one.pattern.regex.groupindex})
    for one in allauth_urls
    if "logout" not in str(one.name)
]


def rows_of(model: type[models.Model]) -> str:
    rows = [
        {name: value for name, value in row.items() if name not in LAST_USE}
        for row in model._base_manager.order_by("pk").values()
    ]
    return hashlib.sha256(json.dumps(rows, default=str, sort_keys=True).encode()).hexdigest()


def everything() -> dict[str, str]:
    """Return a digest of each table of the product."""
    return {
        model._meta.label: rows_of(model)
        for model in apps.get_models()
        if model._meta.managed and model._meta.label not in LEFT_BY_READS
    }


@pytest.fixture
def admin(world: World) -> Client:
    return client_of(world, "administrator")


def test_no_get_writes(world: World, admin: Client) -> None:
    headers = {"Authorization": f"Bearer {make_token(world.people['administrator'])}"}
    before = everything()
    assert len(before) > 30
    for name in GETS:
        url = address(name, world.other.ids)
        answer = admin.get(url)
        if answer.streaming:
            list(answer.streaming_content)
        # Nothing listens where the hosts of this test are said to be.
        assert answer.status_code < 500 or name.startswith(("api:host", "hosts:")), name
        other = Client().head(url, headers=headers) if name.startswith("api:") else admin.head(url)
        assert other.status_code == answer.status_code, name
    for path in ALLAUTH:
        admin.get(path)
    after = everything()
    assert [label for label in before if before[label] != after[label]] == []


def test_every_write_of_a_session_needs_its_csrf_token(world: World) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(
        world.people["administrator"], "allauth.account.auth_backends.AuthenticationBackend"
    )
    before = everything()
    let_in = []
    for name, (_, methods) in ROUTES.items():
        url = address(name, world.other.ids)
        for method in {"POST", "PUT", "PATCH", "DELETE"} & {*methods, "POST"}:
            kind = "application/octet-stream" if name in FILES else "application/json"
            answer = strict.generic(method, url, b"{}", kind)
            refused = answer.status_code == 403  # and not for the role: it may do everything
            if name.startswith("api:"):
                refused = refused and answer.json()["code"] == "csrf_failed"
            if not refused:
                let_in.append((name, method, answer.status_code))
    for path in ALLAUTH:
        if strict.post(path).status_code != 403:
            let_in.append((path, "POST", 0))
    assert let_in == []
    assert everything() == before


class Inline(HTMLParser):
    """Collects what a strict policy would not run: scripts, styles and handlers in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (
            tag == "script" and "src" not in given and given.get("type") != "application/json"
        ):
            self.found.append(f"<{tag}>")
        self.found += [
            f"{tag} {name}"
            for name, value in attrs
            if name == "style"
            or (name.startswith("on") and not name.startswith("on-"))
            or (value or "").strip().lower().startswith("javascript:")
        ]


def test_every_page_has_the_strict_headers_and_nothing_inline(world: World, admin: Client) -> None:
    paths = [address(name, world.other.ids) for name in GETS]
    wrong = []
    seen = 0
    for client, path in [
        *((admin, path) for path in paths + ALLAUTH),
        (Client(), "/accounts/login/"),
        (Client(), "/nothing/"),
    ]:
        answer = client.get(path)
        headers = answer.headers
        policy = dict(
            part.strip().partition(" ")[::2]
            for part in headers.get("Content-Security-Policy", "").split(";")
        )
        if (
            policy.get("default-src") != "'none'"
            or policy.get("script-src") != "'self'"
            or policy.get("style-src") != "'self'"
            or policy.get("frame-ancestors") != "'none'"
            or policy.get("base-uri") != "'none'"
            or policy.get("form-action") != "'self'"
            or "unsafe" in headers["Content-Security-Policy"]
            or headers.get("X-Frame-Options") != "DENY"
            or headers.get("X-Content-Type-Options") != "nosniff"
            or headers.get("Referrer-Policy") != "same-origin"
            or headers.get("Cross-Origin-Opener-Policy") != "same-origin"
            or headers.get("Cross-Origin-Resource-Policy") != "same-origin"
            or "camera=()" not in headers.get("Permissions-Policy", "")
        ):
            wrong.append((path, str(headers)))
        if headers.get("Content-Type", "").startswith("text/html") and not answer.streaming:
            seen += 1
            parser = Inline()
            parser.feed(answer.content.decode())
            wrong += [(path, what) for what in parser.found]
    assert wrong == []
    assert seen > 50


TLS = """
import django, json
django.setup()
from django.test import Client
answer = Client().get("/healthz", secure=True, headers={"Host": "pool.example.com"})
login = Client().get("/healthz", headers={"Host": "pool.example.com"})
from django.conf import settings as s
print(json.dumps({
    "hsts": answer.headers.get("Strict-Transport-Security"),
    "plain": login.headers.get("Strict-Transport-Security"),
    "session": [s.SESSION_COOKIE_NAME, s.SESSION_COOKIE_SECURE, s.SESSION_COOKIE_HTTPONLY,
        s.SESSION_COOKIE_SAMESITE, s.SESSION_COOKIE_DOMAIN, s.SESSION_COOKIE_PATH],
    "csrf": [s.CSRF_COOKIE_NAME, s.CSRF_COOKIE_SECURE, s.CSRF_COOKIE_HTTPONLY],
}))
"""


def test_behind_tls_cookies_are_secure_and_hsts_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TLS],
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
            "PUBLIC_URL": "https://pool.example.com",
            "ALLOWED_HOSTS": "pool.example.com",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert re.fullmatch(r"max-age=31536000; includeSubDomains; preload", told["hsts"])
    assert told["plain"] is None
    assert told["session"] == ["__Host-sessionid", True, True, "Lax", None, "/"]
    assert told["csrf"] == ["__Host-csrftoken", True, True]
