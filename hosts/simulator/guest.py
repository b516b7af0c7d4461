"""The command interpreter inside simulated guests: no shell, no file system, but real results.

Understands simple commands joined by ``;``, ``&&`` and ``||``, single and double quotes,
``$NAME`` and ``${NAME}``, ``>&2``; and the commands ``echo``, ``true``, ``false``, ``exit``,
``sleep``, ``hostname``, ``printenv``. Everything else is "command not found" with code 127.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from dataclasses import dataclass
from typing import Any

MAX_SLEEP_SECONDS = 3600.0
_VARIABLE = re.compile(r"'[^']*'|\$(\w+)|\$\{(\w+)\}")
_JOINTS = frozenset({";", "&&", "||"})


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


async def execute(command: str, environment: dict[str, str]) -> Outcome:
    """Run a command line with these environment variables; ``sleep`` really waits."""
    outcome = Outcome()
    try:
        lexer = shlex.shlex(_expand(command, environment), posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError as error:
        return Outcome(stderr=f"sh: syntax error: {error}\n", exit_code=2)
    for joint, argv in _split(words):
        skipped = (joint == "&&" and outcome.exit_code) or (joint == "||" and not outcome.exit_code)
        if argv and not skipped and await _run(argv, environment, outcome):
            break
    return outcome


def _expand(command: str, environment: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return match[0] if name is None else environment.get(name, "")

    return _VARIABLE.sub(value, command)


def _split(words: list[str]) -> list[tuple[str, list[str]]]:
    parts: list[tuple[str, list[str]]] = [(";", [])]
    for word in words:
        if word in _JOINTS:
            parts.append((word, []))
        else:
            parts[-1][1].append(word)
    return parts


async def _run(argv: list[str], environment: dict[str, str], outcome: Outcome) -> bool:
    """Run one simple command into the outcome; return whether it ends the whole line."""
    to_stderr = argv[-2:] == [">&", "2"]
    if to_stderr:
        argv = argv[:-2]
    name, args = (argv or [""])[0], argv[1:]
    outcome.exit_code = 0
    text = error = ""
    match name:
        case "true" | "":
            pass
        case "false":
            outcome.exit_code = 1
        case "exit":
            outcome.exit_code = int(args[0]) % 256 if args and args[0].isdigit() else 0
            return True
        case "echo":
            bare = args[:1] == ["-n"]
            text = " ".join(args[bare:]) + ("" if bare else "\n")
        case "hostname":
            text = environment.get("HOSTNAME", "") + "\n"
        case "printenv":
            known = [environment[arg] for arg in args if arg in environment]
            text = "".join(f"{value}\n" for value in known)
            outcome.exit_code = int(len(known) < len(args))
        case "sleep":
            try:
                await asyncio.sleep(min(float(args[0]), MAX_SLEEP_SECONDS))
            except (IndexError, ValueError):
                error, outcome.exit_code = "usage: sleep seconds\n", 1
        case _:
            error, outcome.exit_code = f"sh: {name}: command not found\n", 127
    if to_stderr:
        text, error = "", text + error
    outcome.stdout += text
    outcome.stderr += error
    return False
