"""The supervisor with small stand-in programs. A FIFO tells when a process has really gone: the
kernel closes its end, whoever reaps it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.console import supervisor as module
from orchestrator.console.supervisor import (
    Program,
    RunLock,
    Stopped,
    Supervisor,
    SupervisorError,
)

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 20.0

LIVE = """
import signal, sys
for name in sys.argv[2:]:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
fifo = open(sys.argv[1], "w")
print("up", file=fifo, flush=True)
while True:
    signal.pause()
"""

RUN = """
import sys
from pathlib import Path
from orchestrator.console import supervisor as module
module.STOP_SECONDS = 0.5
folder = Path(sys.argv[1])
with module.Supervisor(folder / "log", print) as supervisor:
    for name in sys.argv[2:]:
        command = [sys.executable, "-c", (folder / "live.py").read_text(), str(folder / name)]
        if name == "stubborn":
            command.append("SIGTERM")
        supervisor.start(module.Program(name, command, foundation=name == "base"))
    supervisor.run()
"""


class Witness:
    """Reads a FIFO that a process holds open for as long as it lives."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> str:
        """Wait for the next words of the process; empty: it is gone."""
        ready, _, _ = select.select([self.fd], [], [], SECONDS)
        assert ready, f"nothing happened at {self.path}"
        return os.read(self.fd, 1000).decode()

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Callable[[str], Witness]]:
    (tmp_path / "live.py").write_text(LIVE)
    with ExitStack() as stack:

        def make(name: str) -> Witness:
            made = Witness(tmp_path / name)
            stack.callback(made.close)
            return made

        yield make


def python(name: str, code: str, *arguments: str) -> Program:
    return Program(name, [sys.executable, "-c", code, *arguments])


def run_in_process(folder: Path, *names: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), *names],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_second_owner_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with (
        RunLock(path),
        pytest.raises(SupervisorError, match=rf"with pid {os.getpid()};"),
        RunLock(path),
    ):
        pass
    with RunLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_child_that_dies_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_BACKOFF_SECONDS", 0.01)
    said: list[str] = []
    out = tmp_path / "out"
    once = """
import pathlib, signal, sys
path = pathlib.Path(sys.argv[1])
first = not path.exists()
path.write_text("first" if first else "again")
sys.exit("I am unwell") if first else signal.pause()
"""
    with Supervisor(tmp_path / "log", said.append) as supervisor:
        supervisor.start(python("worker", once, str(out)))
        supervisor.wait(
            lambda: out.exists() and out.read_text() == "again", SECONDS, "not started again"
        )
    assert said[0].startswith("worker ended (exit code 1); it is started again in 0.01 s.")
    assert "I am unwell" in said[0]


def test_a_child_that_never_starts_ends_the_run_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_BACKOFF_SECONDS", 0.01)
    with Supervisor(tmp_path, lambda _: None) as supervisor:
        supervisor.start(python("web", "raise SystemExit('no settings')"))
        with pytest.raises(SupervisorError, match=r"web does not start \(exit code 1, 3 times"):
            supervisor.wait(lambda: False, SECONDS, "never")
    assert (tmp_path / "web.log").read_text().splitlines() == ["no settings"] * 3


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with (
        Supervisor(tmp_path, lambda _: None) as supervisor,
        pytest.raises(SupervisorError, match=r"redis cannot be started: .*No such file"),
    ):
        supervisor.start(Program("redis", ["/no/such/server"]))


def test_a_passing_program_is_awaited_and_its_failure_told(tmp_path: Path) -> None:
    with Supervisor(tmp_path, lambda _: None) as supervisor:
        supervisor.finished(supervisor.begin(python("good", "pass")), SECONDS)
        bad = supervisor.begin(python("bad", "raise SystemExit('why')"))
        with pytest.raises(SupervisorError, match=r"bad failed \(exit code 1\):\n    why"):
            supervisor.finished(bad, SECONDS)
        assert supervisor.children == []


def test_waiting_too_long_says_for_what(tmp_path: Path) -> None:
    with (
        Supervisor(tmp_path, lambda _: None) as supervisor,
        pytest.raises(SupervisorError, match=r"no answer after 0\.01 seconds"),
    ):
        supervisor.wait(lambda: False, 0.01, "no answer")


def test_a_signal_ends_waiting_and_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Supervisor(tmp_path, lambda _: None) as supervisor:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            supervisor.wait(lambda: False, SECONDS, "never")
        with pytest.raises(Stopped):
            supervisor.start(python("late", "pass"))
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_every_child_even_a_stubborn_one(
    tmp_path: Path, witness: Callable[[str], Witness], number: signal.Signals
) -> None:
    names = ["base", "meek", "stubborn"]
    witnesses = [witness(name) for name in names]
    with run_in_process(tmp_path, *names) as process:
        assert [w.read() for w in witnesses] == ["up\n"] * 3
        started = time.monotonic()
        process.send_signal(number)
        assert [w.read() for w in witnesses] == [""] * 3
        assert process.wait(SECONDS) == 0
    assert time.monotonic() - started > 0.5  # the stubborn one had its time


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a parent's death")
def test_no_orphan_when_the_supervisor_is_killed(
    tmp_path: Path, witness: Callable[[str], Witness]
) -> None:
    names = ["meek", "stubborn"]
    witnesses = [witness(name) for name in names]
    with run_in_process(tmp_path, *names) as process:
        assert [w.read() for w in witnesses] == ["up\n"] * 2
        process.kill()
        assert [w.read() for w in witnesses] == [""] * 2


def test_foundations_end_after_those_who_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = tmp_path / "order"
    code = """
import signal, sys
def end(*_):
    with open(sys.argv[1], "a") as file:
        print(sys.argv[2], file=file)
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + sys.argv[2], "w").close()
signal.pause()
"""
    with Supervisor(tmp_path / "log", lambda _: None) as supervisor:
        for name in ("redis", "web"):
            program = python(name, code, str(order), name)
            supervisor.start(Program(program.name, program.command, foundation=name == "redis"))
        supervisor.wait(
            lambda: all((tmp_path / f"order{name}").exists() for name in ("redis", "web")),
            SECONDS,
            "not up",
        )
    assert order.read_text().split() == ["web", "redis"]


def test_a_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_ROTATE_BYTES", 10)
    (tmp_path / "web.log").write_text("x" * 11)
    with Supervisor(tmp_path, lambda _: None) as supervisor:
        supervisor.finished(supervisor.begin(python("web", "print('new')")), SECONDS)
    assert (tmp_path / "web.log").read_text() == "new\n"
    assert (tmp_path / "web.log.1").read_text() == "x" * 11
