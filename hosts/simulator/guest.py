"""The command interpreter inside simulated guests: no shell, but real results.

Understands simple commands joined by ``;``, new lines, ``&&``, ``||`` and ``|``, single and double
quotes, ``$NAME`` and ``${NAME}``, ``>``, ``>>`` and ``>&2``; the commands ``echo``, ``true``,
``false``, ``exit``, ``sleep``, ``hostname``, ``whoami``, ``printenv``; ``printf``, ``cat``,
``base64 -d``, ``dd``, ``sha256sum``, ``test``, ``mkdir``, ``rmdir``, ``chmod``, ``mv``, ``rm``,
``head -c``, ``tail -c +``, ``xargs -0``, ``tar -xf`` and ``unzip`` on the files of the guest, which
it keeps as long as the simulator runs; ``systemctl`` with its services; and ``sh``, ``bash``,
``zsh`` with a script from a pipe, a file with parameters, or ``-c``. Everything else is
"command not found" with code 127.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import re
import shlex
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAX_SLEEP_SECONDS = 3600.0
_VARIABLE = re.compile(r"'[^']*'|\$(\w+)|\$\{(\w+)\}")
_JOINTS = frozenset({";", "&&", "||", "|"})
# Accepted, and without an effect here.
_SILENT = frozenset({"true", "", "set", "cd", "export", "mkdir", "rmdir", "chmod", "sync"})
_SHELLS = frozenset({"sh", "bash", "zsh", "/bin/sh", "/bin/bash", "/bin/zsh"})
MAX_DEPTH = 8  # of shells that run shells
TOOLS_USER = "parallels"  # whom commands run as, unless told otherwise


@dataclass(slots=True)
class Disk:
    """What a guest keeps between commands."""

    files: dict[str, bytes | bytearray] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)

    def copy(self) -> Disk:
        """Return what a snapshot keeps of it."""
        return Disk({path: bytes(file) for path, file in self.files.items()}, set(self.services))


@dataclass(slots=True)
class Outcome:
    """What a command has written and how it ended."""

    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0

    def record(self) -> dict[str, Any]:
        """Return the answer's JSON; empty outputs are left out, a failure has ``error``."""
        record: dict[str, Any] = {}
        if self.stdout:
            record["stdout"] = self.stdout
        if self.stderr:
            record["stderr"] = self.stderr
        record["exit_code"] = self.exit_code
        if self.exit_code:
            record["error"] = f"exit status {self.exit_code}"
        return record


class CommandError(Exception):
    """A simple command has failed; ``code`` is how it ended."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


async def execute(
    command: str, environment: dict[str, str], disk: Disk | None = None, *, depth: int = 0
) -> Outcome:
    """Run a command line with these environment variables; ``sleep`` really waits."""
    outcome = Outcome()
    try:
        lexer = shlex.shlex(_expand(command, environment), posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        lexer.commenters = ""
        words = list(lexer)
    except ValueError as error:
        return Outcome(stderr=f"sh: syntax error: {error}\n", exit_code=2)
    shell = _Shell(environment, disk or Disk(), outcome, depth)
    parts = _split(words)
    piped = b""
    for number, (joint, argv) in enumerate(parts):
        skipped = (joint == "&&" and outcome.exit_code) or (joint == "||" and not outcome.exit_code)
        if not argv or skipped:
            continue
        into_pipe = number + 1 < len(parts) and parts[number + 1][0] == "|"
        given = piped if joint == "|" else b""
        piped, ends = await shell.run(argv, given, into_pipe=into_pipe)
        if ends:
            break
    return outcome


def _expand(command: str, environment: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return match[0] if name is None else environment.get(name, "")

    lines = (line for line in command.splitlines() if not line.lstrip().startswith("#"))
    return _VARIABLE.sub(value, " ; ".join(line for line in lines if line.strip()))


def _split(words: list[str]) -> list[tuple[str, list[str]]]:
    parts: list[tuple[str, list[str]]] = [(";", [])]
    for word in words:
        if word in _JOINTS:
            parts.append((word, []))
        else:
            parts[-1][1].append(word)
    return parts


class _Shell:
    """Runs simple commands, one after the other, into one outcome."""

    def __init__(
        self, environment: dict[str, str], disk: Disk, outcome: Outcome, depth: int
    ) -> None:
        self.environment = environment
        self.disk = disk
        self.outcome = outcome
        self.depth = depth

    async def run(self, argv: list[str], given: bytes, *, into_pipe: bool) -> tuple[bytes, bool]:
        """Run one command; return what it puts into a pipe, and whether it ends the whole line."""
        to_stderr = argv[-2:] == [">&", "2"]
        argv, path, appends = _redirected(argv[:-2] if to_stderr else argv)
        name, args = (argv or [""])[0], argv[1:]
        self.outcome.exit_code = 0
        if name == "exit":
            self.outcome.exit_code = int(args[0]) % 256 if args and args[0].isdigit() else 0
            return b"", True
        written = b""
        try:
            if name == "sleep":
                await _sleep(args)
            elif name in _SHELLS:
                written = await self._script(args, given)
            else:
                written = self._written(name, args, given)
        except CommandError as error:
            self.outcome.exit_code = error.code
            self.outcome.stderr += f"{error}\n" if str(error) else ""
        if path:
            before = self.disk.files.get(path, b"") if appends else b""
            self.disk.files[path] = bytes(before) + written
        elif to_stderr:
            self.outcome.stderr += written.decode(errors="replace")
        elif into_pipe:
            return written, False
        else:
            self.outcome.stdout += written.decode(errors="replace")
        return b"", False

    def _written(self, name: str, args: list[str], given: bytes) -> bytes:
        if name in _SILENT:
            return b""
        if name == "false":
            raise CommandError("")
        known: dict[str, Callable[[list[str], bytes], bytes]] = {
            "echo": _echo,
            "printf": _printf,
            "base64": _decode,
            "whoami": lambda args, given: f"{self.environment.get('USER', TOOLS_USER)}\n".encode(),
            "dd": self._dd,
            "hostname": lambda args, given: f"{self.environment.get('HOSTNAME', '')}\n".encode(),
            "printenv": self._printenv,
            "cat": lambda args, given: b"".join(map(self._read, args)) if args else given,
            "sha256sum": self._sums,
            "test": self._test,
            "head": lambda args, given: self._read(args[2])[: int(args[1])],
            "tail": lambda args, given: self._read(args[2])[int(args[1]) - 1 :],
            "xargs": self._xargs,
            "tar": self._unpack,
            "unzip": self._unpack,
            "mv": self._move,
            "rm": self._remove,
            "systemctl": self._service,
        }
        if name not in known:
            raise CommandError(f"sh: {name}: command not found", 127)
        return known[name](args, given)

    async def _script(self, args: list[str], given: bytes) -> bytes:
        """Run a shell within this one; its exit code and errors become those of this command."""
        if self.depth >= MAX_DEPTH:
            raise CommandError("sh: too many shells within each other", 126)
        if args[:1] == ["-c"]:
            text, args = (args[1:2] or [""])[0], args[1:]
        elif args:
            if args[0] not in self.disk.files:
                raise CommandError(f"sh: {args[0]}: No such file or directory", 127)
            text = self.disk.files[args[0]].decode(errors="replace")
        else:
            text = given.decode(errors="replace")
        numbered = {str(number): value for number, value in enumerate(args)}
        inner = await execute(text, self.environment | numbered, self.disk, depth=self.depth + 1)
        self.outcome.exit_code = inner.exit_code
        self.outcome.stderr += inner.stderr
        return inner.stdout.encode()

    def _read(self, path: str) -> bytes:
        if path not in self.disk.files:
            raise CommandError(f"{path}: No such file or directory")
        return bytes(self.disk.files[path])

    def _dd(self, args: list[str], given: bytes) -> bytes:
        """Put what comes in into a file, at its place."""
        asked = dict(arg.partition("=")[::2] for arg in args)
        file = self.disk.files.get(asked["of"], b"")
        if not isinstance(file, bytearray):
            file = self.disk.files[asked["of"]] = bytearray(file)
        start = int(asked.get("seek", "0")) * int(asked.get("bs", "512"))
        file.extend(bytes(max(0, start - len(file))))
        file[start : start + len(given)] = given
        if asked.get("conv") != "notrunc":
            del file[start + len(given) :]
        return b""

    def _xargs(self, args: list[str], given: bytes) -> bytes:
        words = [word for word in given.decode().split("\0") if word]
        return self._written(args[1], [*args[2:], *words], b"")

    def _unpack(self, args: list[str], given: bytes) -> bytes:
        """Put what an archive has into a folder; a link is a copy of what it leads to."""
        path, option, folder = args[-3:]
        if option not in {"-C", "-d"}:
            raise CommandError(f"usage: an archive, then -C or -d, then a folder; not {args}")
        try:
            found = unpacked(self._read(path))
        except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
            raise CommandError(f"{path}: {error}", 2) from None
        for name, content in found.items():
            self.disk.files[f"{folder.rstrip('/')}/{name}"] = content
        return b""

    def _printenv(self, args: list[str], given: bytes) -> bytes:
        known = [self.environment[arg] for arg in args if arg in self.environment]
        self.outcome.exit_code = int(len(known) < len(args))
        return "".join(f"{value}\n" for value in known).encode()

    def _sums(self, args: list[str], given: bytes) -> bytes:
        lines = (f"{hashlib.sha256(self._read(path)).hexdigest()}  {path}\n" for path in args)
        return "".join(lines).encode()

    def _test(self, args: list[str], given: bytes) -> bytes:
        if len(args) == 2 and args[0] in {"-e", "-f", "-s"} and args[1] in self.disk.files:
            return b""
        raise CommandError("")

    def _move(self, args: list[str], given: bytes) -> bytes:
        source, to = [arg for arg in args if not arg.startswith("-")][:2]
        self.disk.files[to] = self._read(source)
        del self.disk.files[source]
        return b""

    def _remove(self, args: list[str], given: bytes) -> bytes:
        for path in args:
            if not path.startswith("-"):
                self.disk.files.pop(path, None)
        return b""

    def _service(self, args: list[str], given: bytes) -> bytes:
        verb, name = ([*args, "", ""])[:2]
        if verb in {"start", "restart"}:
            self.disk.services.add(name)
        elif verb == "stop":
            self.disk.services.discard(name)
        elif verb == "is-active":
            active = name in self.disk.services
            self.outcome.exit_code = 0 if active else 3
            return b"active\n" if active else b"inactive\n"
        return b""


def _redirected(argv: list[str]) -> tuple[list[str], str, bool]:
    """Return the command without its redirection to a file, that file, and whether it appends."""
    if argv[-3:] == ["2", ">", "/dev/null"]:  # nothing here says anything there but in failing
        argv = argv[:-3]
    if len(argv) > 1 and argv[-2] in {">", ">>"}:
        return argv[:-2], argv[-1], argv[-2] == ">>"
    return argv, "", False


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Return the files of a zip or tar by their paths in it."""
    if archive[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
            return {one: zipped.read(one) for one in zipped.namelist() if not one.endswith("/")}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {}
        for info in tar:
            if not info.isdir() and (file := tar.extractfile(info)) is not None:
                found[info.name.removeprefix("./")] = file.read()
        return found


def _echo(args: list[str], given: bytes) -> bytes:
    bare = args[:1] == ["-n"]
    return (" ".join(args[bare:]) + ("" if bare else "\n")).encode()


def _printf(args: list[str], given: bytes) -> bytes:
    if args[:1] == ["%s"]:
        return "".join(args[1:]).encode()
    return (args[0] if args else "").replace("\\n", "\n").encode()


def _decode(args: list[str], given: bytes) -> bytes:
    if "-d" not in args:
        return base64.b64encode(given) + b"\n"
    try:
        return base64.b64decode(given, validate=False)
    except binascii.Error:
        raise CommandError("base64: invalid input") from None


async def _sleep(args: list[str]) -> None:
    try:
        await asyncio.sleep(min(float(args[0]), MAX_SLEEP_SECONDS))
    except (IndexError, ValueError):
        raise CommandError("usage: sleep seconds") from None
