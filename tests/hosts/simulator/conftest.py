"""A running simulator for the tests: the real program in a process of its own."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[3]
KEY = {"X-Api-Key": base64.b64encode(b"sim:sim").decode()}
START_SECONDS = 20.0
_pause = threading.Event()


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Return the first true value of the condition; fail when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        _pause.wait(0.01)
    pytest.fail(f"not true within {seconds} s: {condition}")


@dataclass
class Sim:
    """A simulator process, its control API and its hosts."""

    process: subprocess.Popen[str]
    url: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=15))

    def control(self) -> list[dict[str, Any]]:
        return self.http.get(f"{self.url}/control/").raise_for_status().json()["hosts"]

    def look(self, k: int = 1) -> dict[str, Any]:
        return self.http.get(f"{self.url}/control/h/{k}").raise_for_status().json()

    def patch(self, k: int = 1, **settings: Any) -> dict[str, Any]:
        answer = self.http.patch(f"{self.url}/control/h/{k}", json=settings)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def reset(self) -> None:
        self.http.post(f"{self.url}/control/reset").raise_for_status()

    def call(self, method: str, path: str, k: int = 1, **kwargs: Any) -> httpx.Response:
        """Call a host with its API key; ``path`` begins below ``/api/v1``."""
        kwargs.setdefault("headers", KEY)
        return self.http.request(method, f"{self.url}/h/{k}/api/v1{path}", **kwargs)

    def login(self, k: int = 1) -> dict[str, str]:
        answer = self.call(
            "POST",
            "/auth/token",
            k,
            headers={},
            json={"email": "root@localhost", "password": "simulated"},
        )
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    def create_async(
        self, name: str, k: int = 1, *, job_id: str = "", **fields: Any
    ) -> httpx.Response:
        internal = {"X-INTERNAL-API-CLIENT": "true", "X-ORCHESTRATOR-JOB-ID": job_id}
        headers = KEY | (internal if job_id else {})
        return self.call("POST", "/machines/async", k, headers=headers, json=body(name, **fields))

    def ended_job(self, job_id: str, k: int = 1) -> dict[str, Any]:
        login = self.login(k)

        def job() -> dict[str, Any] | None:
            record = self.call("GET", f"/jobs/{job_id}", k, headers=login).json()
            return record if record["state"] in ("completed", "failed") else None

        return until(job)

    def make(self, name: str, k: int = 1, **fields: Any) -> dict[str, Any]:
        """Create a VM synchronously."""
        answer = self.call("POST", "/machines", k, json=body(name, **fields))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def close(self) -> None:
        self.http.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def body(name: str, **fields: Any) -> dict[str, Any]:
    """Return a create request."""
    manifest = {
        "catalog_id": "ubuntu-2404",
        "version": "1.0",
        "connection": "host=user:password@http://127.0.0.1:9",
        "specs": {"cpu": "3", "memory": "4096"},
    }
    request: dict[str, Any] = {"name": name, "start_on_create": True, "catalog_manifest": manifest}
    return request | fields


def start(*flags: object) -> Sim:
    """Start a simulator with these flags and wait until it says that it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hosts.simulator", *map(str, flags)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("listening on http://127.0.0.1:"), line
    return Sim(process, line.removeprefix("listening on "))


@pytest.fixture
def simulator() -> Iterator[Callable[..., Sim]]:
    """Start simulators with flags of the test's own."""
    with contextlib.ExitStack() as stack:

        def make(*flags: object) -> Sim:
            sim = start(*flags)
            stack.callback(sim.close)
            return sim

        yield make


@pytest.fixture(scope="session")
def _shared() -> Iterator[Sim]:
    sim = start("--count", 3, "--vms", 2, "--boot-seconds", 0, "--clone-seconds", 0)
    yield sim
    sim.close()


@pytest.fixture
def sim(_shared: Sim) -> Sim:
    """Three fast hosts with two foreign VMs each, as they are at the start."""
    _shared.reset()
    return _shared


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Wait for a condition."""
    return until
