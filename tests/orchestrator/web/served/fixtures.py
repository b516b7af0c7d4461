"""A real server process with a SQLite file and a Redis of its own, that tests may break."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.product import migrated_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[4]


def until(condition: Callable[[], Any], seconds: float = 15, what: str = "condition") -> Any:
    """Return the condition's value once it is true; fail after `seconds`."""
    limit = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := condition()):
        if time.monotonic() > limit:
            pytest.fail(f"{what} did not come true within {seconds} s")
        pause.wait(0.02)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A Redis on a port of its own; may be stopped and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--dir", str(self.folder)),
            ],
            stdout=subprocess.DEVNULL,
        )
        until(self.answers, what="Redis answers")

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Served:
    """The server, and who may use it."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    redis: RedisServer
    cast: dict[str, Any]
    environment: dict[str, str]
    log: Path
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=20))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(self.url + path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.client.post(self.url + path, **options)

    def bearer(self, name: str, number: int = 0) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.cast[name]['tokens'][number]}"}

    def cookie(self, name: str, number: int = 0) -> dict[str, str]:
        return {"Cookie": f"sessionid={self.cast[name]['sessions'][number]}"}

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


@contextmanager
def serve(folder: Path, **settings: str) -> Iterator[Served]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    redis = RedisServer(folder)
    port = free_port()
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "SECRET_KEY", "FIELD_KEYS", "PUBLIC_URL")
    } | {
        "DJANGO_SETTINGS_MODULE": "tests.orchestrator.web.served.settings",
        "VAR_DIR": str(folder / "var"),
        "REDIS_URL": redis.url,
        "WEB_THREADS": "4",
        "LOG_FORMAT": "console",
        "RATE_LIMIT_STRANGER": "0",  # tests look without signing in, many times a second
        **settings,
    }
    (folder / "var").mkdir()
    shutil.copy(migrated_file(), folder / "var" / "orchestrator.sqlite3")
    made = subprocess.run(
        [sys.executable, "-m", "tests.orchestrator.web.served.prepare"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    redis.start()
    log = folder / "web.log"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "orchestrator.asgi:application"),
            *("--host", "127.0.0.1", "--port", str(port), "--no-access-log"),
            *("--timeout-graceful-shutdown", "5"),
        ],
        cwd=ROOT,
        env=environment,
        stderr=log.open("wb"),
    )
    served = Served(
        f"http://127.0.0.1:{port}",
        port,
        process,
        redis,
        json.loads(made.stdout),
        environment,
        log,
    )
    try:
        until(lambda: process.poll() is None and _answers(served), 30, "the server")
        yield served
    finally:
        served.client.close()
        if process.poll() is None:
            process.kill()
        process.wait()
        redis.stop()


def _answers(served: Served) -> bool:
    try:
        return served.get("/healthz").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that the tests of a module share."""
    with serve(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def own_served(tmp_path: Path) -> Iterator[Served]:
    """A server for one test, which may stop it."""
    with serve(tmp_path) as server:
        yield server
