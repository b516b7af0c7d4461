"""Calls that were recorded from existing tools, sent again to the running product."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.contract.running import PASSWORD, Site, finished, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.running import Exchange

# What an answer may lack: Go leaves out what is empty, and each server tells its own troubles.
OPTIONAL = {"stack", "stdout", "stderr", "error", "services"}
# What describes the recording's connection, and not the request.
NOT_SENT = {"host", "content-length", "user-agent", "authorization"}

ACTION_ON_POOL = [
    *("01_health", "02_pull", "03_start", "05_run", "06_run_fail", "04_stop", "07_delete"),
    *("08_clone", "09_pull_apikey"),
]
ACTION_ON_HOST = ["01_health", "02_pull", "03_clone", "05_start", "06_run", "04_stop", "07_delete"]
JENKINS_ON_HOST = [
    *("00_login_testconnection", "01_clone", "02_start", "03_waitReady", "04_execute"),
    *("05_delete_force", "06_status_after_delete", "11_create_from_catalog", "12_waitReady"),
    "14_delete_force",
]
JENKINS_ON_POOL = [
    *("00_login_testconnection", "11_create_from_catalog", "12_waitReady", "13_start_GET"),
    "14_delete_force",
]
TOOLS = {
    "gha_orch": ACTION_ON_POOL,
    "gha_host": ACTION_ON_HOST,
    "jenkins_host": JENKINS_ON_HOST,
    "jenkins_orchestrator": JENKINS_ON_POOL,
}


class Replay:
    """Sends recorded calls with the names of the recording, and our ids in place of its own."""

    def __init__(self, site: Site) -> None:
        self.client = httpx.Client(base_url=site.product.url, timeout=90)
        self.token = ""
        with site.tool("bob") as bob:
            key = {"name": "action", "key": "ci key", "secret": "s3cret"}
            made = bob.post("/auth/api_keys", json=key | {"key": f"ci {id(self)}"})
            assert made.status_code == 201, made.text
        self.key = made.json()["encoded"]
        self.ids: dict[str, str] = {}

    def send(self, exchange: Exchange) -> httpx.Response:
        headers = {k: v for k, v in exchange.headers.items() if k.lower() not in NOT_SENT}
        if "Authorization" in exchange.headers:
            headers["Authorization"] = f"Bearer {self.token}"
        if "X-Api-Key" in exchange.headers:
            headers["X-Api-Key"] = self.key
        path, body = exchange.path, exchange.body
        if path.endswith("/auth/token"):
            body = json.dumps({"email": "bob", "password": PASSWORD})
        for theirs, ours in self.ids.items():
            path, body = path.replace(theirs, ours), body.replace(theirs, ours)
        return self.client.request(exchange.method, path, headers=headers, content=body or None)

    def learn(self, exchange: Exchange, response: httpx.Response) -> None:
        if exchange.path.endswith("/auth/token") and response.is_success:
            self.token = response.json()["token"]
        if exchange.answer and "id" in exchange.answer and response.is_success:
            self.ids.setdefault(exchange.answer["id"], response.json()["id"])


def differences(exchange: Exchange, response: httpx.Response) -> list[str]:
    """Return how an answer differs from the recorded one in status, content type, names, types."""
    what = f"{exchange.method} {exchange.path}"
    if response.status_code != exchange.status:
        return [f"{what}: {response.status_code} {response.text}, not {exchange.status}"]
    if exchange.answer is None:
        return [f"{what}: {response.text}"] if response.content else []
    if response.headers["Content-Type"] != "application/json":
        return [f"{what}: {response.headers['Content-Type']}"]
    return [f"{what}: {text}" for text in _unlike(exchange.answer, response.json(), "")]


def _unlike(theirs: Any, ours: Any, place: str) -> Iterator[str]:
    if type(theirs) is not type(ours) and not (
        isinstance(theirs, int | float) and isinstance(ours, int | float)
    ):
        yield f"{place} is {ours!r}, not like {theirs!r}"
    elif isinstance(theirs, dict):
        # Parts of a machine that are not known here are empty, which tools read as unset.
        names = theirs.keys() - OPTIONAL if ours or not place else set()
        names -= {"message"} if "healthy" in theirs else set()
        for name in names & ours.keys():
            yield from _unlike(theirs[name], ours[name], f"{place}.{name}")
        if not place:
            yield from (f"{name} is missing" for name in names - ours.keys())


@pytest.mark.stores
@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_gets_what_it_knows(site: Site, tool: str) -> None:
    replay = Replay(site)
    wrong = []
    for part in TOOLS[tool]:
        for exchange in recorded(f"{tool}_{part}"):
            response = replay.send(exchange)
            replay.learn(exchange, response)
            wrong += differences(exchange, response)
    finished(site)
    assert not wrong, "\n".join(wrong)
