"""Files that steps write into guests: artifacts, configuration; in pieces, with their checksum.

A piece is written at its own place in a file beside the wanted one, so that sending it again
changes nothing. Only when the checksum of the whole is right does the file go to its place.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from deployments import artifacts, dictionaries
from deployments.models import Artifact, Step
from deployments.running.actions.guests import SOURCE, InGuest, encoded
from deployments.running.results import Failure, Result, Retry, Success
from jobs.models import Job
from orchestrator.refusals import Conflict
from vms import verbs
from vms.states import State
from vms.verbs.commands import Command
from vms.verbs.writing import Piece

if TYPE_CHECKING:
    from deployments.running.actions.base import Run

# Bytes of a file in one command: encoded they fit into one argument of a program on Linux.
CHUNK = 64 * 1024


@dataclass(frozen=True)
class Content:
    """What is written: its size in bytes, its SHA-256, and how to read a part of it."""

    size: int
    sha256: str
    read: Callable[[int, int], bytes]  # from, how many

    @classmethod
    def of(cls, content: bytes) -> Content:
        sha256 = hashlib.sha256(content).hexdigest()
        return cls(len(content), sha256, lambda start, count: content[start : start + count])


class Write(InGuest):
    """A file in the guest. It goes on where an earlier attempt of the same file came to."""

    def content(self, action: dict[str, Any]) -> Content:
        """Return the file; `action` has its secrets in it."""
        raise NotImplementedError(f"{type(self).__name__}.content")

    def part(self, action: dict[str, Any]) -> str:
        """Return where the pieces are put together."""
        return f"{action['path']}.part"

    def resumes(self, action: dict[str, Any]) -> str:
        """Return the SHA-256 of a file that is sent as it is; empty: it always begins anew."""
        return ""

    def placed(self, action: dict[str, Any], content: Content) -> list[tuple[str, str]]:
        """Return the commands that put the whole file to its place, and a word that each says.

        Each may run again after it has done its work.
        """
        part, whole = (shlex.quote(path) for path in (self.part(action), action["path"]))
        mode = action.get("mode")
        moded = f"chmod {shlex.quote(str(mode))} {part} && " if mode else ""
        command = f"test -e {part} && {moded}mv -f {part} {whole} ; {_sum_of(whole)}"
        return [(command, content.sha256)]

    def reached(self, action: dict[str, Any], content: Content) -> str:
        """Return what is said when it is done."""
        return f"{action['path']}: {content.size} bytes, SHA-256 {content.sha256}."

    def ask(self, run: Run) -> Job | Result:
        vm = run.vm()
        if vm.state in (State.STARTING, State.RESUMING):
            return Retry(f"{vm.name} is {vm.state}.", seconds=1)
        sent = run.step.result
        same = sent.get("of") and sent.get("of") == self.resumes(run.action)
        at = int(sent.get("sent", 0)) if same else 0
        if at:
            run.log(f"Goes on after {at} bytes, which an earlier attempt has sent.")
        reference = {"step": str(run.step.pk)}
        told = self.told(run)
        return verbs.write_from(run.actor, vm, source=SOURCE, reference=reference, told=told, at=at)

    def ended(self, run: Run, job: Job) -> Result:
        if job.result.get("exit_code"):
            return super().ended(run, job)
        return Success(job.result.get("told", job.message))

    def failed(self, run: Run, job: Job) -> Result:
        result = super().failed(run, job)
        if isinstance(result, Failure):
            return Failure(result.text, self.left(run.step, run.claim.job))
        return result

    def left(self, step: Step, job: Job) -> dict[str, Any]:
        of = self.resumes(step.action)
        asked = job.payload.get("memory", {}).get("job")
        sending = Job.objects.filter(pk=asked).first() if of and asked else None
        return {"sent": sending.payload["at"], "of": of} if sending else {}

    def piece(self, action: dict[str, Any], secrets: frozenset[str], at: int) -> Piece:
        """Return the command for the bytes from `at`; beyond the last, what is done with them."""
        content = self.content(action)
        whole = self.part(action)
        part = shlex.quote(whole)

        def made(command: str, after: int | None, **more: Any) -> Piece:
            return Piece(Command(command, secrets=secrets), after, content.size, **more)

        if at < content.size or not at:
            data = content.read(at, CHUNK)
            said = f"printf %s '{encoded(data)}' | base64 -d"
            after = max(at + len(data), 1)
            if at:
                place = f"bs={CHUNK} seek={at // CHUNK} conv=notrunc"
                return made(f"{said} | dd of={part} {place} 2>/dev/null", after)
            folder = shlex.quote(str(PurePosixPath(whole).parent))
            return made(f"mkdir -p {folder} && {said} > {part}", after)
        wrong = (
            f"What arrived in the guest has not the SHA-256 {content.sha256}. Run it again, and "
            "look at the guest's disk when that does not help."
        )
        begun = at - max(content.size, 1)
        if not begun:
            return made(_sum_of(part), at + 1, expects=content.sha256, mismatch=wrong)
        commands = self.placed(action, content)
        command, word = commands[begun - 1]
        result = {"told": self.reached(action, content)}
        following = at + 1 if begun < len(commands) else None
        return made(command, following, expects=word, mismatch=wrong, result=result)


def _sum_of(path: str) -> str:
    return f"sha256sum {path} || shasum -a 256 {path}"


def artifact_of(action: dict[str, Any]) -> Artifact:
    """Return the file of a step. Raises `Conflict` when it is not there any more."""
    artifact = Artifact.objects.filter(sha256=action["sha256"]).first()
    if artifact is None:
        raise Conflict("The file of this step is not there any more. Import its package again.")
    return artifact


def as_it_is(artifact: Artifact) -> Content:
    """Return an artifact to be sent as it is; it is read from the disk a piece at a time."""

    def read(start: int, count: int) -> bytes:
        with artifacts.opened(artifact) as file:
            file.seek(start)
            return file.read(count)

    return Content(artifact.size, artifact.sha256, read)


class Upload(Write):
    """`vm.upload`: an artifact of the package, with the placeholders in it replaced."""

    def resumes(self, action: dict[str, Any]) -> str:
        return "" if action.get("placeholders") else str(action["sha256"])

    def content(self, action: dict[str, Any]) -> Content:
        artifact = artifact_of(action)
        if not action.get("placeholders"):
            return as_it_is(artifact)
        with artifacts.opened(artifact) as file:
            content = file.read()
        for key, value in action["placeholders"].items():
            content = content.replace(f"{{{{{key}}}}}".encode(), str(value).encode())
        return Content.of(content)


class WriteConfiguration(Write):
    """`config.write`: values, as lines of an environment, as JSON or as INI."""

    def content(self, action: dict[str, Any]) -> Content:
        return Content.of(self.text(action))

    def text(self, action: dict[str, Any]) -> bytes:
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


def piece_of(reference: dict[str, Any], at: int) -> Piece:
    """Return a piece of a step's file, at the moment it is sent (`vms.verbs.writing`)."""
    from deployments.running import actions

    step = Step.objects.filter(pk=reference["step"]).first()
    if step is None:
        raise Conflict("The step that asked for this is not there any more.")
    found = actions.of(step)
    assert isinstance(found, Write)
    action, secrets = dictionaries.revealed(step.action)
    # A secret in a file is not in clear in its command, and that is never shown.
    return found.piece(action, frozenset(secrets), at)
