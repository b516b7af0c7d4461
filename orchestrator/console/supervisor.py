"""Keeps the processes of one machine running, and leaves none behind.

`make run` and the test servers use it. It knows programs, not the product: which programs run is
in `management/commands/run.py`. It imports no Django and starts no threads (a child's parent-death
signal belongs to the thread that started it).

Every child leads a process group of its own, so that Ctrl-C in the terminal reaches only us and we
end the children in our order. On Linux the kernel kills a child whose parent died
(`PR_SET_PDEATHSIG`), so that even `kill -9` of the supervisor leaves no orphan; macOS has no such
call.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Self

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 10.0  # from SIGTERM to SIGKILL
STEADY_SECONDS = 10.0  # a child that lived this long has started; dying earlier counts as a failure
STARTUP_FAILURES = 3  # in a row, and the whole run stops
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
LOG_TAIL_LINES = 15
LOG_ROTATE_BYTES = 20 * 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class SupervisorError(Exception):
    """The run cannot go on; the text is a sentence for the person who started it."""


class Stopped(Exception):
    """A signal asked the run to stop while it waited for something."""


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process signal `number` when process `parent` ends (Linux)."""
    if _libc is None:
        return
    _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        os.kill(os.getpid(), number)


class RunLock:
    """Lets one supervisor run per folder: a lock on `path`, which holds the owner's pid.

    The lock belongs to the open file, so it ends with the process however that dies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Take the lock; `SupervisorError` names the process that has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise SupervisorError(
                f"already running in this folder with pid {owner}; stop that one first."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()


@dataclass(frozen=True)
class Program:
    """What to run: `name` names its log, `environment` is added to ours.

    `user` is who it runs as (only root may choose). `stop_signal` asks it to end. Programs that
    others need (`foundation`) are ended after these.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    foundation: bool = False


class Child:
    """One program with its process; unless it is to run `once`, its supervisor restarts it."""

    def __init__(self, program: Program, log: Path, *, once: bool = False) -> None:
        self.program = program
        self.log = log
        self.once = once
        self.failures = 0
        self.started_at = 0.0
        self.restart_at: float | None = None
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def spawn(self, stdout: IO[bytes] | None = None) -> None:
        """Start the process; its output goes to its log (`stdout` elsewhere, if given)."""
        program, parent = self.program, os.getpid()
        if self.log.exists() and self.log.stat().st_size > LOG_ROTATE_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            try:
                self.process = subprocess.Popen(
                    program.command,
                    env={**os.environ, **program.environment},
                    cwd=program.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout or log,
                    stderr=log,
                    user=program.user,
                    group=_group_of(program.user),
                    extra_groups=[] if program.user else None,
                    start_new_session=True,
                    preexec_fn=lambda: die_with_parent(parent),
                )
            except OSError as error:
                raise SupervisorError(f"{program.name} cannot be started: {error}") from error
        self.started_at = time.monotonic()
        self.restart_at = None

    def signal(self, number: int) -> None:
        """Send a signal to the process and all it started, if there is still any."""
        if self.process is not None:
            # Nobody left, or as macOS says of a group of zombies: not permitted.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def last_lines(self) -> str:
        """Return the end of its log, indented for a message."""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
            lines = log.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (it said nothing)"


class Supervisor:
    """Runs programs, restarts the ones that die and ends all of them on leaving the context.

    Use it from the main thread: `with Supervisor(folder, say) as supervisor: …`. SIGINT, SIGTERM
    and SIGHUP (unless ignored, as `nohup` wants) set `stopping`; every method that waits then
    raises `Stopped`.
    """

    def __init__(self, log_folder: Path, say: Callable[[str], object]) -> None:
        self.log_folder = log_folder
        self.say = say
        self.stopping = False
        self.children: list[Child] = []
        self._handlers: dict[int, object] = {}
        self._wakeup = (-1, -1)
        self._previous_fd = -1

    def __enter__(self) -> Self:
        self.log_folder.mkdir(parents=True, exist_ok=True)
        # A signal writes a byte here, so that waiting ends at once and needs no busy loop.
        self._wakeup = os.pipe()
        for end in self._wakeup:
            os.set_blocking(end, False)
        self._previous_fd = signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._on_stop)
        self._handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # as returned by signal.signal
        signal.set_wakeup_fd(self._previous_fd)
        for end in self._wakeup:
            os.close(end)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def start(self, program: Program) -> Child:
        """Start a program that is to run until the end."""
        return self._start(Child(program, self.log_folder / f"{program.name}.log"))

    def begin(self, program: Program, stdout: IO[bytes] | None = None) -> Child:
        """Start a program that ends by itself; `finished` waits for that."""
        return self._start(
            Child(program, self.log_folder / f"{program.name}.log", once=True), stdout
        )

    def _start(self, child: Child, stdout: IO[bytes] | None = None) -> Child:
        self.check()
        child.spawn(stdout)
        self.children.append(child)
        return child

    def finished(self, child: Child, seconds: float) -> None:
        """Wait until a child of `begin` has ended well, else `SupervisorError` with its words."""
        self.wait(lambda: not child.running, seconds, f"{child.program.name} has not ended")
        self.children.remove(child)
        if code := child.process and child.process.returncode:
            raise SupervisorError(
                f"{child.program.name} failed ({exit_words(code)}):\n{child.last_lines()}"
            )

    def wait(self, until: Callable[[], bool], seconds: float, late: str) -> None:
        """Supervise until `until()`; after `seconds`, `SupervisorError` with the words `late`."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise SupervisorError(f"{late} after {seconds:g} seconds.")
            self._sleep(0.05)
            self.check()
            self._tend()

    def run(self) -> None:
        """Supervise until a signal asks to stop."""
        while not self.stopping:
            due = [c.restart_at for c in self.children if c.restart_at is not None]
            self._sleep(max(0.0, min(due) - time.monotonic()) if due else None)
            self._tend()

    def check(self) -> None:
        """Raise `Stopped` when a signal asked to stop."""
        if self.stopping:
            raise Stopped

    def stop(self) -> None:
        """End every child, foundations last: ask, then kill after `STOP_SECONDS`."""
        for foundation in (False, True):
            self._end([c for c in self.children if c.program.foundation == foundation])
        self.children.clear()

    def _tend(self) -> None:
        """Look at each child: count a death, and restart when its back-off is over."""
        now = time.monotonic()
        for child in [] if self.stopping else self.children:
            if child.once or child.running:
                continue
            if child.restart_at is None:
                self._bury(child, now)
            elif child.restart_at <= now:
                child.spawn()

    def _bury(self, child: Child, now: float) -> None:
        """Plan the restart of a dead child, or give up when it never gets past its start."""
        assert child.process is not None
        child.signal(signal.SIGKILL)  # whatever it left behind in its group
        name, how = child.program.name, exit_words(child.process.returncode)
        child.failures = 1 if now - child.started_at > STEADY_SECONDS else child.failures + 1
        if child.failures >= STARTUP_FAILURES:
            raise SupervisorError(
                f"{name} does not start ({how}, {child.failures} times in a row). "
                f"Its last words in {child.log}:\n{child.last_lines()}"
            )
        delay = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (child.failures - 1))
        child.restart_at = now + delay
        self.say(f"{name} ended ({how}); it is started again in {delay:g} s.\n{child.last_lines()}")

    def _end(self, children: Sequence[Child]) -> None:
        """Ask children to end, wait together for at most `STOP_SECONDS`, then kill."""
        for child in children:
            if child.running:
                child.signal(child.program.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while any(child.running for child in children) and time.monotonic() < deadline:
            self._sleep(0.05)
        for child in children:
            child.signal(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()

    def _sleep(self, seconds: float | None) -> None:
        """Wait for a signal (a child's end is one), at most so long; None: as long as it takes."""
        ready, _, _ = select.select([self._wakeup[0]], [], [], seconds)
        if ready:
            os.read(self._wakeup[0], 4096)


def exit_words(code: int) -> str:
    """Say how a process ended, from its `returncode`."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _group_of(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd  # only for servers started as root on behalf of another user

    return pwd.getpwnam(user).pw_gid
