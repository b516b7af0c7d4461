"""The parts of `manage.py run` that need no running product (that is `tests/e2e/test_run.py`)."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

from orchestrator.console.management.commands import run
from orchestrator.console.supervisor import Supervisor, SupervisorError


def test_a_taken_port_is_refused_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SupervisorError, match=rf"^port {port} is taken; .* PORT=…\.$"):
            run.free_port("127.0.0.1", port)
    assert run.free_port("127.0.0.1", port) == port


@pytest.mark.parametrize("bind", ["203.0.113.7", "no such name"])
def test_a_foreign_address_is_refused(bind: str) -> None:
    with pytest.raises(SupervisorError, match=r"^BIND must be an address of this machine"):
        run.free_port(bind, 0)


@pytest.mark.parametrize("text", ["http", "-1", "65536", "8e3", "٣"])
def test_a_bad_port_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PORT", text)
    with pytest.raises(SupervisorError, match=r"^PORT must be a port number"):
        run.whole_number("PORT", 8000)


def test_an_empty_port_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    assert run.whole_number("PORT", 8000) == 8000


def test_the_simulators_port_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "simulator-port"
    port = run.remembered_port(path)
    assert run.remembered_port(path) == port
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(SupervisorError, match=r"simulator-port.*DEMO=0"),
    ):
        run.remembered_port(path)


def test_a_socket_path_that_the_kernel_refuses_is_avoided(tmp_path: Path) -> None:
    short = Path("/tmp/s")
    assert run.socket_path(tmp_path, short) == tmp_path / "redis.sock"
    assert run.socket_path(tmp_path / ("long" * 30), short) == short / "redis.sock"
    assert run.socket_path(tmp_path / "with space", short) == short / "redis.sock"


def test_without_an_embedded_server_redis_url_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SupervisorError, match=r"set REDIS_URL"):
        run.embedded_redis(tmp_path / "redis.sock")


def test_the_embedded_server_answers_on_a_private_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    path.touch()  # left behind by a run that was killed

    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError:
                return False
            client.sendall(b"PING\r\n")
            return client.recv(10) == b"+PONG\r\n"

    with Supervisor(tmp_path / "log", lambda _: None) as supervisor:
        supervisor.start(run.embedded_redis(path))
        supervisor.wait(answers, 10, "no answer")
        assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("10.1.2.3", "http://10.1.2.3:8000"),
    ],
)
def test_the_address_shown_opens_on_this_machine(bind: str, url: str) -> None:
    assert run.public_url(bind, 8000) == url


def test_nothing_answers_where_nothing_listens() -> None:
    port = run.free_port("127.0.0.1", 0)
    assert not run.answers_ready("127.0.0.1", port)
    assert not run.listening("127.0.0.1", port)
