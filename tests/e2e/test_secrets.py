"""After the main job no secret is anywhere that somebody may read."""

from __future__ import annotations

import re
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from tests.e2e.test_main_job import do_the_main_job
from tests.routes.test_table import ROUTES
from tests.support.product import until
from tests.support.simulation import simulated_hosts
from tests.support.team import make_team, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.product import Product
    from tests.support.simulation import Simulation
    from tests.support.team import Team

pytestmark = [pytest.mark.e2e, pytest.mark.stores]

PASSWORD, CONNECTION = (f"planted-{secrets.token_hex(12)}" for _ in range(2))
# Every page that needs no id, and what is not read as text.
PAGES = [
    f"/{pattern}"
    for name, (pattern, methods) in ROUTES.items()
    if "GET" in methods
    and "<" not in pattern
    and not name.startswith(("api:", "healthz", "readyz"))
    and name not in ("accounts:setup", "accounts:accept")  # for people who have no account
]
OF_A_HOST = ("", "edit/", "connection/", "remove/", "maintain/", "register/")


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    monkeypatch.setenv("SIMULATOR_PASSWORD", PASSWORD)
    with simulated_hosts(3) as running:
        yield running


def dump(product: Product) -> str:
    """Return every row of every table as the database keeps it."""
    url = product.environment["DATABASE_URL"]
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as store:
            return "\n".join(store.iterdump())
    with psycopg.connect(url) as store:
        names = store.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        return "\n".join(
            row[0]
            for (name,) in names
            for row in store.execute(f'SELECT t::text FROM "{name}" t')  # type: ignore[arg-type]
        )


def process_list() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has just ended
    return "\n".join(found)


def signed_in(product: Product) -> httpx.Client:
    client = httpx.Client(base_url=product.url, timeout=30, follow_redirects=True)
    page = client.get("/accounts/login/").text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    password = (product.folder / "admin-password").read_text().strip()
    form = {"login": "admin", "password": password, "csrfmiddlewaretoken": token[1]}
    client.post("/accounts/login/", data=form, headers={"Referer": product.url})
    return client


def places(team: Team, client: httpx.Client) -> dict[str, str]:
    """Return what can be read, by where."""
    host = ok(team.admin.get("/hosts/"))["results"][0]
    token = ok(team.admin.get("/tokens/"))["results"][0]["id"]
    webhook = ok(team.admin.get("/webhooks/"))["results"][0]["id"]
    details = [f"/hosts/{host['id']}/{part}" for part in OF_A_HOST]
    details += [f"/tokens/{token}/", f"/tokens/{token}/access/", f"/webhooks/{webhook}/"]
    pages = {path: client.get(path) for path in (*PAGES, *details)}
    assert {
        path for path, page in pages.items() if page.status_code not in (200, 400, 405)
    } == set()
    assert "mac-1" in pages["/hosts/"].text
    nouns = ("hosts", "sources", "tokens", "events", "webhooks", "audit", "jobs", "access", "me")
    api = [team.admin.get(f"/{noun}/") for noun in nouns]
    wrong = [
        client.get("/nothing-here/"),
        client.get("/hosts/00000000-0000-7000-8000-000000000000/"),
        client.post("/hosts/new/", data={"password": PASSWORD}),  # without the CSRF token
        client.get("/hosts/new/", headers={"Host": "elsewhere.example"}),
        team.admin.get("/audit/", params={"since": PASSWORD}),
        team.admin.post(
            "/hosts/",
            json={"name": "x", "url": team.simulation.host_url(1), "password": PASSWORD},
        ),
        team.admin.post("/sources/", json={"connection": CONNECTION}),
        team.bob.post("/hosts/", content=f'{{"password": "{PASSWORD}"'),
    ]
    assert all(answer.status_code >= 400 for answer in wrong)
    return {
        "database": dump(team.product),
        "logs": team.product.logs(),
        "audit as JSON lines": team.admin.get("/audit/export/?as=jsonl").text,
        "audit as CSV": team.admin.get("/audit/export/?as=csv").text,
        "openapi": client.get("/api/v2/openapi.json").text,
        "pages": "\n".join(page.text for page in pages.values()),
        "api": "\n".join(answer.text for answer in api),
        "errors": "\n".join(answer.text for answer in wrong),
        "processes": process_list(),
    }


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="reads the process list in /proc")
def test_no_secret_is_anywhere_after_the_main_job(product: Product, simulation: Simulation) -> None:
    team = make_team(
        product,
        simulation,
        password=PASSWORD,
        connection=f"host=user:{CONNECTION}@http://127.0.0.1:9",
    )
    hook = {"name": "hook", "url": "http://10.0.0.1/", "kinds": ["audit", "vm"]}
    signing = ok(team.admin.post("/webhooks/", json=hook))["secret"]
    do_the_main_job(team)
    seen = until(
        lambda: (told := team.admin.get("/audit/export/").text).count("\n") > 10 and told,
        10,
        "the trail is there",
    )
    planted = {
        "host password": PASSWORD,
        "connection": CONNECTION,
        "token": team.bob.headers["Authorization"].removeprefix("Bearer "),
        "secret of the token": team.bob.headers["Authorization"].rpartition("_")[2],
        "secret of a webhook": signing,
        "field key": product.environment["FIELD_KEYS"],
        "secret key": product.environment["SECRET_KEY"],
    }
    with closing(signed_in(product)) as client:
        found = places(team, client)
    # The search finds what is there.
    assert seen
    assert "gAAAA" in found["database"]
    assert "host.enrolled" in found["audit as CSV"]
    assert "/api/v2/hosts/" in found["openapi"]
    assert "uvicorn" in found["processes"]
    assert "mac-1" in found["api"]
    leaks = [(what, where) for what, s in planted.items() for where in found if s in found[where]]
    assert leaks == []
