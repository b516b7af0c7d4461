"""What runs in a guest: a command line, a script that is sent along, or one of the host's disk."""

from __future__ import annotations

import base64
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MASK = "•••"
COMMAND_LIMIT = 32 * 1024  # characters
# Bytes. Encoded a script must fit into one argument of a program: 128 KiB on Linux.
SCRIPT_LIMIT = 64 * 1024
MOST_PARAMETERS = 100
_USER = re.compile(r"[\w][\w.@\\-]{0,99}\Z")


@dataclass(frozen=True)
class Command:
    """What runs in a guest, with secrets in it, and which they are: none of them is stored."""

    command: str
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()

    def masked(self, text: str) -> str:
        """Return `text` without the secrets."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, MASK)
        return text


@dataclass(frozen=True)
class HostScript:
    """A file of the disk of the VM's host, that is copied to `remote_path` and run there."""

    path: str
    remote_path: str
    parameters: Sequence[str] = ()

    def line(self) -> str:
        """Return the command that runs it, once it is in the guest."""
        return shlex.join(["sh", self.remote_path, *self.parameters])


def require_path(name: str, value: str) -> None:
    """Raise `Invalid` unless `value` is a whole path of one line."""
    if not value.startswith(("/", "C:\\")) or not value.isprintable() or len(value) > 1000:
        raise Invalid.field(name, "Give a whole path of one line, from the root on.")


def require_user(user: str) -> None:
    """Raise `Invalid` unless `user` may name an account of a guest; "" stands for its own."""
    if user and not _USER.match(user):
        raise Invalid.field("user", "Give the name of an account in the guest, without spaces.")


def payload_of(
    command: str,
    script: str,
    host_script: HostScript | None,
) -> dict[str, Any]:
    """Return what a job stores of what is to be run. Raises `Invalid`.

    One of `command` and `script`; a script of the host's disk runs before the command, if any.
    """
    if script and (command.strip() or host_script):
        raise Invalid.field("script", "Give a command or a script, not both.")
    if not command.strip() and not script.strip() and host_script is None:
        raise Invalid.field("command", "Give a command to run.")
    if len(command) > COMMAND_LIMIT:
        raise Invalid.field("command", f"A command has at most {COMMAND_LIMIT} characters.")
    if len(script.encode()) > SCRIPT_LIMIT:
        raise Invalid.field("script", f"A script has at most {SCRIPT_LIMIT} bytes.")
    if host_script is None:
        return {"script": script} if script else {"command": command}
    require_path("path", host_script.path)
    require_path("remote_path", host_script.remote_path)
    line = host_script.line()
    if len(host_script.parameters) > MOST_PARAMETERS or len(line) > COMMAND_LIMIT:
        text = f"Give at most {MOST_PARAMETERS} parameters of {COMMAND_LIMIT} characters in all."
        raise Invalid.field("parameters", text)
    return {
        "copy": {"path": host_script.path, "remote_path": host_script.remote_path},
        "command": f"{line} && {command}" if command.strip() else line,
    }


def line_of(payload: dict[str, Any]) -> str:
    """Return the command line that does what a job stored."""
    if script := payload.get("script"):
        return by_shell(script)
    return str(payload["command"])


def by_shell(script: str, shell: str = "sh") -> str:
    """Return a command line that runs a script, however hosts and shells between quote it.

    What is encoded has no character that means anything to them. Its exit code is the script's.
    """
    encoded = base64.b64encode(script.encode()).decode()
    return f"printf %s {encoded} | base64 -d | {shlex.quote(shell)}"
