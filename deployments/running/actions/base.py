"""The base of actions, and what each run of one is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction

from accounts.actors import Actor
from deployments.models.tasks import Step, Task
from deployments.running import logs
from deployments.running.results import Busy, Failure, Result, Retry, Success
from deployments.states import StepState
from hosts.models import Health
from jobs.handlers import handler_of
from jobs.models import Job
from jobs.queueing import request_cancel
from orchestrator.refusals import Conflict, NotFound
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from jobs.claims import Claim

FIRST_LOOK, LONGEST_PAUSE = 0.2, 2.0  # seconds between two looks at a job
UNKNOWN = "Outcome unknown"  # begins the error of what is never sent twice


@dataclass
class Run:
    """One attempt of a step, as its worker has it."""

    claim: Claim
    step: Step

    @property
    def task(self) -> Task:
        return self.step.task

    @property
    def action(self) -> dict[str, Any]:
        action: dict[str, Any] = self.step.action
        return action

    @property
    def memory(self) -> dict[str, Any]:
        """Return what the attempt remembered of itself, in its job."""
        memory: dict[str, Any] = self.claim.job.payload.get("memory", {})
        return memory

    @property
    def actor(self) -> Actor:
        """Return whoever started or continued the task, with their rights as they are now."""
        task = self.task
        return Actor(user=task.started_by, token=task.started_with, address=task.address)

    def log(self, text: str) -> None:
        """Add to the log of this attempt. The caller has masked secrets."""
        logs.write(self.step.pk, self.step.attempt, text)

    def vm(self) -> VirtualMachine:
        """Return the VM that the step acts on. Raises `NotFound`, `Conflict`."""
        container = self.action.get("container", {})
        vm_id = container.get("vm") or self._created(container.get("created"))
        vms = VirtualMachine.objects.select_related("host__status")
        found = vms.filter(pk=vm_id).first() if vm_id else None
        if found is None:
            raise NotFound("The VM of this step is not there any more.")
        return found

    def _created(self, which: list[str] | None) -> str:
        made = Step.objects.filter(task=self.task, kind="vm.create", state=StepState.DONE)
        for action, result in made.values_list("action", "result"):
            if action.get("deployed") == which and result.get("vm"):
                return str(result["vm"])
        raise Conflict("No step of this task has made the VM that this step needs. Run that first.")


class Action:
    """Something that a step can do. An attempt begins once, and is looked at until it has ended."""

    def begin(self, run: Run) -> Result:
        """Begin; everything that must not happen twice is remembered with it (`Run.claim`)."""
        raise NotImplementedError(f"{type(self).__name__}.begin")

    def look(self, run: Run) -> Result:
        """Look how far it is, after `Busy`."""
        return self.begin(run)

    def cancel(self, run: Run) -> None:
        """Stop what is under way, as far as that can be."""

    def left(self, step: Step, job: Job) -> dict[str, Any]:
        """Return what an attempt that was cut off leaves to the next, as the step's result."""
        return {}


class ByJob(Action):
    """An action that asks a room below for a job, and waits until that has ended."""

    def ask(self, run: Run) -> Job | Result:
        """Call the domain function, in the caller's transaction; a result when there is no job."""
        raise NotImplementedError(f"{type(self).__name__}.ask")

    def ended(self, run: Run, job: Job) -> Result:
        """Return what the job, which is done, comes to."""
        return Success(job.message)

    def begin(self, run: Run) -> Result:
        if run.memory.get("job"):  # the attempt of a lost worker: it has asked already
            return self.look(run)
        with transaction.atomic():
            asked = self.ask(run)
            if not isinstance(asked, Job):
                return asked
            # In one transaction, so that it is asked once, whoever dies when.
            run.claim.remember(memory={**run.memory, "job": str(asked.pk)})
        return Busy(FIRST_LOOK)

    def then(self, **memory: Any) -> Busy:
        """Return that another job follows, asked for with this memory besides."""
        return Busy(FIRST_LOOK, {**memory, "job": "", "looks": 0})

    def look(self, run: Run) -> Result:
        if run.memory.get("job") == "":
            return self.begin(run)
        job = self.job(run)
        if job is None:
            return Failure("The job of this step is not there any more. Look what it has done.")
        if not job.is_final:
            looks = int(run.memory.get("looks", 0))
            said = run.memory.get("said", "")
            if job.message and job.message != said:
                run.claim.note(job.message, job.progress)
                run.log(job.message)
            pause = min(LONGEST_PAUSE, FIRST_LOOK * 1.3**looks)
            return Busy(pause, {"looks": min(looks + 1, 30), "said": job.message or said})
        if job.state == Job.State.DONE:
            return self.ended(run, job)
        return self.failed(run, job)

    def job(self, run: Run) -> Job | None:
        """Return the job that the attempt asked for, if it is there still."""
        pk = run.memory.get("job")
        return Job.objects.filter(pk=pk).first() if pk else None

    def failed(self, run: Run, job: Job) -> Result:
        """Return what a job that failed comes to: again where that may help and does no harm."""
        why = job.error or job.message or f"It was {job.state}."
        if why.startswith(UNKNOWN):
            return Retry(why) if run.step.repeatable else Failure(why)
        if self._host_is_away(run):
            return Retry(f"Its host does not answer: {why}")
        return Failure(why)

    def _host_is_away(self, run: Run) -> bool:
        host = run.vm().host
        return bool(host and host.status.health == Health.UNREACHABLE)

    def cancel(self, run: Run) -> None:
        job = self.job(run)
        if job is None or job.is_final:
            return
        if handler_of(job.kind).cancellable:
            request_cancel(job, reason="The step that asked for it was interrupted.")
        else:
            run.log(f"{job.kind} cannot be interrupted and goes on by itself.")
