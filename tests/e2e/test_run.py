"""`manage.py run` with the product's real processes: ready, refused twice, stopped, killed."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 90.0  # a limit for a loaded machine, not the aim
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes as Linux does"),
]


class Run:
    """One `manage.py run` with its output so far."""

    def __init__(self, var: Path, **environment: str) -> None:
        clean = {
            key: value
            for key, value in os.environ.items()
            if key not in {"DATABASE_URL", "REDIS_URL", "BIND", "DEMO", "PUBLIC_URL"}
        }
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "run"],
            cwd=ROOT,
            env=clean | {"VAR_DIR": str(var), "PORT": "0"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.output = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read until the output matches; fail at its end or after `READY_SECONDS`."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + READY_SECONDS
        while not (match := re.search(pattern, self.output, re.MULTILINE)):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, left))
            chunk = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            assert chunk, f"no {pattern!r} in:\n{self.output}"
            self.output += chunk.decode()
        return match

    def children(self) -> list[int]:
        """Return its process and all below, as file descriptors that tell when one has ended."""
        found = [self.process.pid]
        for pid in found:
            tasks = Path(f"/proc/{pid}/task").glob("*/children")
            found += [int(child) for task in tasks for child in task.read_text().split()]
        return [os.pidfd_open(pid) for pid in found]


def all_end(pidfds: list[int], seconds: float) -> bool:
    """Wait until all these processes have ended."""
    deadline = time.monotonic() + seconds
    ended = True
    for pidfd in pidfds:
        ready, _, _ = select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
        ended = ended and bool(ready)
        os.close(pidfd)
    return ended


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Whatever a failed test leaves running is killed; its children go with it."""
    started: list[Run] = []
    yield started
    for run in started:
        run.process.kill()
        run.process.wait()


def test_life_of_a_run(tmp_path: Path, runs: list[Run]) -> None:
    var = tmp_path / "var"
    password = var / "admin-password"

    first = Run(var)
    runs.append(first)
    ready = first.read_until(r"^ready: (http://127\.0\.0\.1:\d+)  login: admin  password: in (.+)$")
    assert ready[2] == str(password)
    assert password.stat().st_mode & 0o777 == 0o600
    clear = re.search(r"^password: (\S+)", first.output, re.MULTILINE)
    assert clear is not None
    assert clear[1] == password.read_text().strip()
    assert httpx.get(f"{ready[1]}/healthz").status_code == 200
    logs = "".join(log.read_text(errors="replace") for log in (var / "log").glob("*.log"))
    assert clear[1] not in logs

    second = Run(var)
    runs.append(second)
    second.read_until(rf"already running in this folder with pid {first.process.pid}")
    assert second.process.wait(READY_SECONDS) != 0

    family = first.children()
    assert len(family) == 8  # run, redis, simulator, web, two workers, beat, watcher
    first.process.send_signal(signal.SIGTERM)
    assert all_end(family, 25)
    assert first.process.wait() == 0

    # The data is kept, and the password is not shown again. Killed, it leaves nothing running.
    third = Run(var)
    runs.append(third)
    third.read_until(r"^ready: ")
    assert "password: " + clear[1] not in third.output
    family = third.children()
    third.process.kill()
    assert all_end(family, 5)


def test_a_taken_port_stops_the_start(tmp_path: Path, runs: list[Run]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        run = Run(tmp_path / "var", PORT=str(port))
        runs.append(run)
        run.read_until(rf"port {port} is taken; ")
        assert run.process.wait(READY_SECONDS) != 0
    assert not (tmp_path / "var" / "log" / "web.log").exists()
