"""Steps in running guests: scripts, services, files, configuration.

A guest is reached by commands alone, so a file is written by them, and its checksum read back.
What a command holds is made at the moment of its call: a job's row has neither secrets nor files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from deployments import dictionaries
from deployments.models import Artifact, Step
from deployments.running.actions.base import ByJob
from deployments.running.results import Failure, Result, Retry, Success
from jobs.models import Job
from orchestrator.refusals import Conflict
from vms import verbs
from vms.states import State
from vms.verbs.executing import Command

if TYPE_CHECKING:
    from deployments.running.actions.base import Run

SOURCE = "deployments"
SHELLS = frozenset({"", "sh", "/bin/sh"})
# Bytes of a file in one command: encoded they fit into one argument of a program on Linux.
CHUNK = 64 * 1024
LARGEST_FILE = 32 * 1024 * 1024
LOG_LIMIT = 32 * 1024  # characters of an output in the log
CALL_SECONDS = 120


class InGuest(ByJob):
    """A command in the guest; it has failed when its exit code is not 0."""

    source = SOURCE

    def told(self, run: Run) -> str:
        """Return what the audit says of the command."""
        return run.step.text

    def seconds(self, run: Run) -> int:
        return CALL_SECONDS

    def command(self, action: dict[str, Any], memory: dict[str, Any]) -> str:
        """Return the command; `action` has its secrets in it."""
        raise NotImplementedError(f"{type(self).__name__}.command")

    def ask(self, run: Run) -> Job | Result:
        vm = run.vm()
        if vm.state in (State.STARTING, State.RESUMING):
            return Retry(f"{vm.name} is {vm.state}.", seconds=1)
        return verbs.execute_from(
            run.actor,
            vm,
            source=self.source,
            reference={"step": str(run.step.pk), "memory": run.memory},
            told=self.told(run),
            timeout_seconds=self.seconds(run),
        )

    def ended(self, run: Run, job: Job) -> Result:
        result = job.result
        for name in ("stdout", "stderr"):
            if text := str(result.get(name) or "").rstrip():
                run.log(text if len(text) <= LOG_LIMIT else f"{text[:LOG_LIMIT]}\n… cut")
        if result.get("timed_out"):
            return Failure(f"No end within {self.seconds(run)} s.")
        code = result.get("exit_code")
        if code:
            last = str(result.get("stderr") or result.get("stdout") or "").strip().splitlines()
            return Failure(
                f"Exit code {code}" + (f": {last[-1][:300]}" if last else "."), {"exit_code": code}
            )
        return Success("Exit code 0.", {"exit_code": 0})


class Execute(InGuest):
    """`vm.execute`: a script."""

    def seconds(self, run: Run) -> int:
        return int(run.action.get("timeout_seconds") or 300)

    def command(self, action: dict[str, Any], memory: dict[str, Any]) -> str:
        return in_interpreter(action["script"], action.get("interpreter") or "")


def in_interpreter(script: str, interpreter: str) -> str:
    if interpreter in SHELLS:
        return script
    return f"printf %s '{_encoded(script.encode())}' | base64 -d | {shlex.quote(interpreter)}"


class Service(InGuest):
    """`vm.service`: starts or stops a service, with what the guest has for that."""

    def command(self, action: dict[str, Any], memory: dict[str, Any]) -> str:
        verb, name = action["do"], shlex.quote(action["name"])
        return f"systemctl {verb} {name} || launchctl {verb} {name}"


class Remove(InGuest):
    """`vm.remove_file`, `config.remove`."""

    def command(self, action: dict[str, Any], memory: dict[str, Any]) -> str:
        return f"rm -f {shlex.quote(action['path'])}"


class Write(InGuest):
    """A file in the guest, in pieces that a command can hold; then its checksum is looked at."""

    def content(self, action: dict[str, Any]) -> bytes:
        """Return the file; `action` has its secrets in it."""
        raise NotImplementedError(f"{type(self).__name__}.content")

    def command(self, action: dict[str, Any], memory: dict[str, Any]) -> str:
        content, at = self.content(action), int(memory.get("at", 0))
        path = action["path"]
        part = shlex.quote(f"{path}.part")
        piece = _encoded(content[at : at + CHUNK])
        words = [f"printf %s '{piece}' | base64 -d {'>>' if at else '>'} {part}"]
        if not at:
            words.insert(0, f"mkdir -p {shlex.quote(str(PurePosixPath(path).parent))}")
        if at + CHUNK >= len(content):
            whole = shlex.quote(path)
            if mode := action.get("mode"):
                words.append(f"chmod {shlex.quote(str(mode))} {part}")
            words.append(f"mv -f {part} {whole}")
            words.append(f"echo size {len(content)} sum {hashlib.sha256(content).hexdigest()}")
            words.append(f"sha256sum {whole} || shasum -a 256 {whole}")
        return " && ".join(words)

    def ended(self, run: Run, job: Job) -> Result:
        if job.result.get("exit_code") or job.result.get("timed_out"):
            return super().ended(run, job)
        lines = str(job.result.get("stdout") or "").split()
        if lines[:1] != ["size"]:  # there is more to come
            return self.then(at=int(run.memory.get("at", 0)) + CHUNK)
        size, wanted, *seen = lines[1], lines[3], *lines[4:]
        if wanted not in seen:
            return Failure(
                f"Its checksum in the guest is {(seen or ['nothing'])[0]}, not {wanted}. Run it "
                "again, and look at the guest's disk when that does not help."
            )
        return Success(f"{run.action['path']}: {size} bytes, SHA-256 {wanted}.")


class Upload(Write):
    """`vm.upload`: an artifact of the package, with the placeholders in it replaced."""

    def content(self, action: dict[str, Any]) -> bytes:
        from deployments import artifacts

        artifact = Artifact.objects.filter(sha256=action["sha256"]).first()
        if artifact is None:
            raise Conflict("The file of this step is not there any more. Import its package again.")
        if artifact.size > LARGEST_FILE:
            raise Conflict(
                f"This file has {artifact.size // 2**20} MiB; at most {LARGEST_FILE // 2**20} go "
                "into a guest by commands. Put it into the template, or fetch it by a script."
            )
        with artifacts.opened(artifact) as file:
            content = file.read()
        for key, value in (action.get("placeholders") or {}).items():
            content = content.replace(f"{{{{{key}}}}}".encode(), str(value).encode())
        return content


class WriteConfiguration(Write):
    """`config.write`: values, as lines of an environment, as JSON or as INI."""

    def content(self, action: dict[str, Any]) -> bytes:
        values, form = action.get("values") or {}, action.get("format", "env")
        if form == "json":
            return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
        if form == "ini":
            return "".join(
                f"{key} = {_plain(one)}\n" for key, one in sorted(values.items())
            ).encode()
        lines = (f"{key}={shlex.quote(_plain(one))}\n" for key, one in sorted(values.items()))
        return "".join(lines).encode()


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def command_of(reference: dict[str, Any]) -> Command:
    """Return the command of a step, at the moment of its call (`vms.verbs.executing`)."""
    from deployments.running import actions

    step = Step.objects.filter(pk=reference["step"]).first()
    if step is None:
        raise Conflict("The step that asked for this is not there any more.")
    found = actions.of(step)
    assert isinstance(found, InGuest)
    action, secrets = dictionaries.revealed(step.action)
    # A secret in a file is not in clear in its command, and that is never shown.
    return Command(found.command(action, reference["memory"]), secrets=frozenset(secrets))
