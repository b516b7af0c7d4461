"""`check`: looks at a VM until it is healthy for long enough, or its deadline has passed."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import httpx
from django.utils import timezone

from deployments.running.actions.base import FIRST_LOOK
from deployments.running.actions.guests import InGuest, in_interpreter
from deployments.running.results import Busy, Failure, Result, Success
from jobs.models import Job
from orchestrator import addresses
from orchestrator.refusals import Conflict
from vms.states import State

if TYPE_CHECKING:
    from deployments.running.actions.base import Run
    from vms.models import VirtualMachine

PROBE_SECONDS = 5.0  # how long one look may take
PAUSE_SECONDS = 2.0  # between two looks
BY_COMMAND = frozenset({"script", "agent"})


class Check(InGuest):
    """Probes `port` and `http` reach the VM's address from here; the others are commands in it."""

    def begin(self, run: Run) -> Result:
        return self.look(run)

    def look(self, run: Run) -> Result:
        probe = run.action.get("probe", "agent")
        if run.memory.get("job"):
            return super().look(run)
        vm = run.vm()
        if vm.state != State.RUNNING:
            return self._seen(run, f"{vm.name} is {vm.state}")
        if probe in BY_COMMAND:
            try:
                return super().begin(run)
            except Conflict as refusal:  # it stopped just now
                return self._seen(run, refusal.message)
        if wrong := _why_not_asked(vm):
            return self._seen(run, wrong)
        if run.claim.job.step != "call":
            return Busy(0, blocks=True)
        return self._seen(run, PROBES[probe](vm, run.action))

    def seconds(self, run: Run) -> int:
        return 30

    def command(self, action: dict[str, Any], memory: dict[str, Any]) -> str:
        if action.get("probe") == "script":
            return in_interpreter(action["script"], action.get("interpreter") or "")
        return "true"

    def ended(self, run: Run, job: Job) -> Result:
        code = job.result.get("exit_code")
        expected = run.action.get("expect")
        if code or job.result.get("timed_out"):
            text = str(job.result.get("stderr") or "").strip()[:200]
            return self._seen(run, f"exit code {code}{': ' if text else ''}{text}")
        if expected and expected not in str(job.result.get("stdout")):
            return self._seen(run, f"its output lacks “{expected}”")
        return self._seen(run, "")

    def failed(self, run: Run, job: Job) -> Result:
        return self._seen(run, job.error or job.message)

    def _seen(self, run: Run, wrong: str) -> Result:
        """Return what a look comes to: `wrong` says what is not as it should be."""
        now = timezone.now()
        assert run.step.started_at is not None
        since = None if wrong else float(run.memory.get("healthy_since") or now.timestamp())
        healthy = now.timestamp() - since if since else 0.0
        minimum = float(run.action.get("minimum_healthy_seconds", 0))
        if since is not None and healthy >= minimum:
            return Success(f"Healthy{f' for {minimum:g} s' if minimum else ''}.")
        if wrong and wrong != run.memory.get("wrong"):
            run.log(f"Not healthy yet: {wrong}.")
        deadline = float(run.action.get("deadline_seconds", 300))
        if (now - run.step.started_at).total_seconds() > deadline:
            why = wrong or f"healthy for {healthy:.0f} s only"
            return Failure(f"Not healthy within {deadline:g} s: {why}.")
        memory = {"healthy_since": since, "wrong": wrong, "job": "", "looks": 0}
        return Busy(
            PAUSE_SECONDS if wrong else min(PAUSE_SECONDS, max(FIRST_LOOK, minimum)), memory
        )


def _why_not_asked(vm: VirtualMachine) -> str:
    if not vm.ip_address:
        return f"{vm.name} has no address"
    try:
        forbidden = addresses.is_forbidden(vm.ip_address)
    except ValueError:
        forbidden = True
    return f"no connection may go to {vm.ip_address}, the address of {vm.name}" if forbidden else ""


def _port(vm: VirtualMachine, action: dict[str, Any]) -> str:
    try:
        with socket.create_connection((vm.ip_address, int(action["port"])), PROBE_SECONDS):
            return ""
    except OSError as error:
        return f"port {action['port']} of {vm.ip_address}: {error}"


def _http(vm: VirtualMachine, action: dict[str, Any]) -> str:
    path = "/" + str(action.get("path") or "").removeprefix("/")
    address = f"[{vm.ip_address}]" if ":" in vm.ip_address else vm.ip_address
    url = f"http://{address}:{int(action.get('port') or 80)}{path}"
    wanted = int(action.get("status") or 200)
    try:
        with httpx.stream("GET", url, timeout=PROBE_SECONDS, follow_redirects=False) as answer:
            if answer.status_code != wanted:
                return f"{url} answers {answer.status_code}, not {wanted}"
            expected = action.get("expect")
            if expected and expected not in _beginning(answer):
                return f"{url} lacks “{expected}”"
            return ""
    except httpx.HTTPError as error:
        return f"{url}: {error}"


def _beginning(answer: httpx.Response) -> str:
    found = b""
    for piece in answer.iter_bytes():
        found += piece
        if len(found) > 64 * 1024:
            break
    return found.decode(errors="replace")


PROBES = {"port": _port, "http": _http}
