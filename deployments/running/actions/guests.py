"""Steps in running guests: scripts, services, files that go.

A guest is reached by commands alone. What a command holds is made at the moment of its call: a
job's row has neither secrets nor files.
"""

from __future__ import annotations

import base64
import shlex
from typing import TYPE_CHECKING, Any

from deployments import dictionaries
from deployments.models import Step
from deployments.running.actions.base import ByJob
from deployments.running.results import Failure, Result, Retry, Success
from jobs.models import Job
from orchestrator.refusals import Conflict
from vms import verbs
from vms.states import State
from vms.verbs.commands import Command

if TYPE_CHECKING:
    from deployments.running.actions.base import Run

SOURCE = "deployments"
SHELLS = frozenset({"", "sh", "/bin/sh"})
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
            user=str(run.action.get("user") or ""),
            sudo=bool(run.action.get("sudo")),
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
    return f"printf %s '{encoded(script.encode())}' | base64 -d | {shlex.quote(interpreter)}"


class Service(InGuest):
    """`vm.service`: starts or stops a service, with what the guest has for that."""

    def command(self, action: dict[str, Any], memory: dict[str, Any]) -> str:
        verb, name = action["do"], shlex.quote(action["name"])
        return f"systemctl {verb} {name} || launchctl {verb} {name}"


class Remove(InGuest):
    """`vm.remove_file`, `config.remove`."""

    def command(self, action: dict[str, Any], memory: dict[str, Any]) -> str:
        return f"rm -f {shlex.quote(action['path'])}"


def encoded(content: bytes) -> str:
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
    return Command(found.command(action, reference["memory"]), secrets=frozenset(secrets))
