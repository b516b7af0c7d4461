"""`vm.snapshot`: takes one of a VM, of a quiet guest if asked; goes back to one; drops one.

Hosts cannot quiesce a guest: their call has a name and a description. So what makes it quiet runs
inside, before the snapshot, and what lets it go on runs after it, whatever became of the snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployments.models.tasks import Step
from deployments.running.actions.guests import InGuest
from deployments.running.results import Failure, Result, Success
from deployments.states import StepState
from orchestrator.refusals import Refusal
from vms import verbs
from vms.states import State

if TYPE_CHECKING:
    from deployments.running.actions.base import Run
    from jobs.models import Job
    from vms.models import Snapshot as Taken
    from vms.models import VirtualMachine

FREEZE, TAKE, THAW = "freeze", "take", "thaw"  # the phases of taking one


class Snapshot(InGuest):
    """One after the other: the guest is made quiet, the snapshot taken, the guest let go on."""

    def ask(self, run: Run) -> Job | Result:
        vm, name = run.vm(), str(run.action.get("name") or run.task.title)[:100]
        what = run.action.get("do")
        if what in ("drop", "revert"):
            return self._with_one(run, vm, name, what)
        phase = self.phase(run)
        if phase == FREEZE and vm.state != State.RUNNING:
            run.log(f"{vm.name} is {vm.state}: its guest writes nothing, and is not asked to.")
            phase = TAKE
        run.claim.remember(memory={**run.memory, "phase": phase})
        if phase == TAKE:
            try:
                return verbs.snapshots.take(run.actor, vm, name=name)
            except Refusal as refusal:
                return self._spoken(run, Failure(refusal.message))
        return super().ask(run)

    def phase(self, run: Run) -> str:
        """Return what comes now; a snapshot that was taken before the thaw failed is not again."""
        first = FREEZE if run.action.get(FREEZE) else TAKE
        if run.step.result.get("snapshot"):
            first = THAW
        return str(run.memory.get("phase", first))

    def told(self, run: Run) -> str:
        return f"{run.step.text}: {self.phase(run)}"

    def command(self, action: dict[str, Any], memory: dict[str, Any]) -> str:
        return str(action[memory.get("phase", FREEZE)])

    def _with_one(self, run: Run, vm: VirtualMachine, name: str, what: str) -> Job | Result:
        found = self._found(run, vm, name)
        if what == "revert":
            if found is None:
                return Failure(f"{vm.name} does not have the snapshot {name} any more.")
            return verbs.snapshots.revert(run.actor, found)
        if found is None:
            return Success(f"{vm.name} has no snapshot {name}.")
        return verbs.snapshots.delete(run.actor, found)

    def _found(self, run: Run, vm: VirtualMachine, name: str) -> Taken | None:
        """Return the snapshot that the action names, else what this task took, else its name's."""
        which = run.action.get("snapshot") or self._taken(run, name)
        if which:
            return vm.snapshots.filter(host_snapshot_id=which).first()
        return vm.snapshots.filter(name=name).order_by("-taken_at").first()

    def _taken(self, run: Run, name: str) -> str:
        rows = Step.objects.filter(
            task=run.task, subject=run.step.subject, kind=run.step.kind, state=StepState.DONE
        )
        for action, result in rows.order_by("-ended_at").values_list("action", "result"):
            if action.get("name") == name and result.get("snapshot"):
                return str(result["snapshot"])
        return ""

    def ended(self, run: Run, job: Job) -> Result:
        if job.kind == "vm.execute":
            return self._spoken(run, super().ended(run, job))
        if job.kind != "vm.take_snapshot":
            return Success(job.message)
        taken = str(job.result["snapshot"])
        if self._thaws(run):
            return self.then(phase=THAW, snapshot=taken)
        return Success(job.message, {"snapshot": taken})

    def failed(self, run: Run, job: Job) -> Result:
        return self._spoken(run, super().failed(run, job))

    def _spoken(self, run: Run, result: Result) -> Result:
        """Return what follows when a phase has ended; one that failed still lets the guest go."""
        phase, memory = self.phase(run), run.memory
        if run.action.get("do") in ("drop", "revert"):
            return result
        if phase == THAW:
            taken = memory.get("snapshot") or run.step.result.get("snapshot")
            kept = {"snapshot": taken} if taken else {}
            if isinstance(result, Failure):
                text = f"The guest was not let go on: {result.text} Mend it, then continue."
                return Failure(text, kept)
            why = memory.get("failed")
            return Failure(why) if why else Success("Taken of a quiet guest.", kept)
        if isinstance(result, Success):
            return self.then(phase=TAKE, frozen=True)
        if isinstance(result, Failure):
            text = f"No snapshot was taken: {result.text}"
            return self.then(phase=THAW, failed=text) if self._thaws(run) else Failure(text)
        return result

    def _thaws(self, run: Run) -> bool:
        """Return whether the guest is, or may be, held still."""
        asked = run.memory.get("frozen") or self.phase(run) == FREEZE
        return bool(run.action.get(THAW) and asked)

    def cancel(self, run: Run) -> None:
        super().cancel(run)
        if run.action.get("do") == "take" and self._thaws(run):
            verbs.execute_from(
                run.actor,
                run.vm(),
                source=self.source,
                reference={"step": str(run.step.pk), "memory": {"phase": THAW}},
                told=f"{run.step.text}: {THAW}",
            )
            run.log("Interrupted; the guest is asked to go on.")
