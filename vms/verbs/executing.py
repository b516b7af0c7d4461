"""What is done in a running guest: commands, and files copied into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings

from hosts.calls import driver_of
from hosts.drivers.base import ErrorKind, HostError
from jobs.outcomes import Done, Fail, Outcome
from orchestrator.refusals import Invalid
from vms import access
from vms.states import State
from vms.verbs.asking import ask_in_place
from vms.verbs.commands import (
    Command,
    HostScript,
    line_of,
    payload_of,
    require_path,
    require_user,
)
from vms.verbs.handling import VerbHandler

if TYPE_CHECKING:
    from accounts.actors import Actor
    from hosts.drivers.base import Driver
    from jobs.claims import Claim
    from jobs.models import Job
    from vms.models import Placement, VirtualMachine

RUNNING = frozenset({State.RUNNING})
OUTPUT_LIMIT = 256 * 1024  # characters kept of each output
MAXIMUM_TRIES = 4  # of a call that did not arrive


def execute(
    actor: Actor,
    vm: VirtualMachine,
    *,
    command: str = "",
    script: str = "",
    host_script: HostScript | None = None,
    environment: Mapping[str, str] | None = None,
    user: str = "",
    sudo: bool = False,
    timeout_seconds: int = 300,
) -> Job:
    """Run `command` in the guest; the job's result is `{exit_code, stdout, stderr, timed_out}`.

    Instead of a command it may be a `script`, which a shell of the guest runs. A script of the
    disk of the VM's host is copied into the guest and runs before the command, if there is one,
    which runs only after its success; it takes the right to manage hosts, as `upload` does.
    `user` is the account in the guest (default: the one its tools run as), `sudo` runs it as root:
    the host is told, and does both.

    It is never sent twice: when its worker is lost the job ends "outcome unknown". Output beyond
    256 Ki characters is cut. Raises `Invalid`, `Forbidden`, and `Conflict` unless the VM runs.
    """
    if host_script:
        actor.require("hosts.manage")
    payload = payload_of(command, script, host_script)
    require_user(user)
    if not 1 <= timeout_seconds <= settings.VM_MAXIMUM_EXECUTE_SECONDS:
        raise Invalid.field(
            "timeout_seconds", f"Give 1 to {settings.VM_MAXIMUM_EXECUTE_SECONDS} seconds."
        )
    told = {name: payload[name] for name in ("command", "script") if name in payload}
    told = {name: text[:500] for name, text in told.items()} | payload.get("copy", {})
    return ask_in_place(
        actor,
        vm,
        "execute",
        RUNNING,
        grant=True,
        alone=False,
        payload={
            **payload,
            "environment": dict(environment or {}),
            "user": user,
            "sudo": sudo,
            "timeout_seconds": timeout_seconds,
        },
        told=told | _as_whom(user, sudo),
    )


def _as_whom(user: str, sudo: bool) -> dict[str, Any]:
    return ({"user": user} if user else {}) | ({"sudo": True} if sudo else {})


_sources: dict[str, Callable[[dict[str, Any]], Command]] = {}


def register_source(name: str, make: Callable[[dict[str, Any]], Command]) -> None:
    """Let `make` write commands at the moment of their call, from what a job may store.

    For commands with secrets, or that are too long for a job's row.
    """
    _sources[name] = make


def execute_from(
    actor: Actor,
    vm: VirtualMachine,
    *,
    source: str,
    reference: dict[str, Any],
    told: str,
    user: str = "",
    sudo: bool = False,
    timeout_seconds: int = 300,
) -> Job:
    """Run what `source` makes of `reference` when it is sent; `told` is what the audit says.

    Otherwise as `execute`. Secrets in its outputs are masked.
    """
    require_user(user)
    return ask_in_place(
        actor,
        vm,
        "execute",
        RUNNING,
        grant=True,
        alone=False,
        payload={
            "source": source,
            "reference": reference,
            "user": user,
            "sudo": sudo,
            "timeout_seconds": min(timeout_seconds, settings.VM_MAXIMUM_EXECUTE_SECONDS),
        },
        told={"command": told[:500]} | _as_whom(user, sudo),
    )


def _command_of(payload: dict[str, Any]) -> Command:
    if source := payload.get("source"):
        return _sources[source](payload["reference"])
    return Command(line_of(payload), payload["environment"])


def upload(actor: Actor, vm: VirtualMachine, *, path: str, remote_path: str) -> Job:
    """Copy a file from the disk of the VM's host into the running guest.

    What lies on a host's disk is the hosts' business, so it takes the right to manage them, too.
    Sent once, as a command is. Raises `Invalid`, `Forbidden`, `Conflict`.
    """
    actor.require("hosts.manage")
    require_path("path", path)
    require_path("remote_path", remote_path)
    return ask_in_place(
        actor,
        vm,
        "upload",
        RUNNING,
        grant=True,
        alone=False,
        payload={"path": path, "remote_path": remote_path},
        told={"path": path, "remote_path": remote_path},
    )


class GuestHandler(VerbHandler):
    """Something that is done in a running guest: sent once, never twice."""

    states = RUNNING
    first = "send"
    calls = frozenset({"send"})
    lost = "ask"
    cancellable = True

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        if refusal := access.why_not_any_more(vm):
            return Fail(refusal)
        with driver_of(placement.host) as driver, claim.sending():
            return self.send(driver, placement.host_vm_id, claim.job.payload)

    def send(self, driver: Driver, host_vm_id: str, payload: dict[str, Any]) -> Done:
        """Send the call and return the job's result."""
        raise AssertionError("every kind sends its own call")

    def troubled(
        self, claim: Claim, vm: VirtualMachine, placement: Placement, error: HostError
    ) -> Outcome:
        if error.outcome_unknown:
            return Fail(f"Outcome unknown, and it is not sent twice: {error.message}")
        if int(claim.job.payload.get("tries", 0)) >= MAXIMUM_TRIES:
            return Fail(error.message)
        return super().troubled(claim, vm, placement, error)


class ExecuteHandler(GuestHandler):
    """`vm.execute`."""

    def send(self, driver: Driver, host_vm_id: str, payload: dict[str, Any]) -> Done:
        sent = _command_of(payload)
        if copy := payload.get("copy"):
            driver.upload(host_vm_id, copy["path"], copy["remote_path"])
        try:
            answer = driver.execute(
                host_vm_id,
                sent.command,
                sent.environment,
                payload["timeout_seconds"],
                user=payload.get("user", ""),
                sudo=payload.get("sudo", False),
            )
        except HostError as error:
            if error.kind != ErrorKind.TIMEOUT or not error.outcome_unknown:
                raise
            return Done(
                message=f"No end within {payload['timeout_seconds']} s.",
                result={"exit_code": None, "stdout": "", "stderr": "", "timed_out": True},
            )
        return Done(
            message=f"Exit code {answer.exit_code}.",
            result={
                "exit_code": answer.exit_code,
                "stdout": _cut(sent.masked(answer.stdout)),
                "stderr": _cut(sent.masked(answer.stderr)),
                "timed_out": False,
            },
        )


class UploadHandler(GuestHandler):
    """`vm.upload`."""

    def send(self, driver: Driver, host_vm_id: str, payload: dict[str, Any]) -> Done:
        driver.upload(host_vm_id, payload["path"], payload["remote_path"])
        return Done(
            message=f"It is {payload['remote_path']} in the guest.",
            result={"path": payload["remote_path"]},
        )


def _cut(text: str) -> str:
    if len(text) <= OUTPUT_LIMIT:
        return text
    return f"{text[:OUTPUT_LIMIT]}\n… cut after {OUTPUT_LIMIT} of {len(text)} characters"
