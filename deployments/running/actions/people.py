"""Steps that wait: for a time, or for a person."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from deployments.running.actions.base import Action
from deployments.running.results import Busy, Pause, Result, Success

if TYPE_CHECKING:
    from deployments.models.tasks import Step
    from deployments.running.actions.base import Run

LONGEST_LOOK = 30.0


class Wait(Action):
    """`wait`: lets some seconds pass."""

    def begin(self, run: Run) -> Result:
        assert run.step.started_at is not None
        seconds = float(run.action.get("seconds", 0))
        left = seconds - (timezone.now() - run.step.started_at).total_seconds()
        if left <= 0:
            return Success(f"{seconds:g} s have passed.")
        return Busy(min(left, LONGEST_LOOK))


class Manual(Action):
    """`manual`, `pause`: a person does something and continues the task."""

    def begin(self, run: Run) -> Result:
        if run.step.result.get("asked"):
            return Success("A person continued.")
        text = run.action.get("instruction") or "Continue when you are ready."
        return Pause(text, {"asked": True})


class Approval(Action):
    """`approval`: somebody who may approves (`deployments.running.approving`)."""

    def begin(self, run: Run) -> Result:
        given = run.step.result.get("approved_by")
        if given:
            return Success(f"Approved by {given}.")
        role = run.action.get("role")
        who = f"by somebody of the role {role}" if role else "by somebody who may run deployments"
        until = ""
        result: dict[str, str] = {}
        if seconds := run.action.get("timeout_seconds"):
            moment = timezone.now() + timedelta(seconds=seconds)
            result = {"until": moment.isoformat()}
            until = f" until {moment:%Y-%m-%d %H:%M} UTC"
        return Pause(f"{run.action['name']}: waits for approval {who}{until}.", result)


def is_late(step: Step) -> bool:
    """Return whether the time for an approval has run out: it has to be asked for anew."""
    until = parse_datetime(step.result.get("until", ""))
    return until is not None and until < timezone.now()
