"""The dialogue of a rollback: by steps or by snapshots, each with what it would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from deployments import specs
from deployments.models import Task
from deployments.running import control
from deployments.views.wizard import Shown, shown_of
from orchestrator.refusals import Refusal
from orchestrator.web import pages

if TYPE_CHECKING:
    from uuid import UUID

    from orchestrator.web.pages import PageRequest

WAYS = {
    specs.STEPS: ("By steps", "Each change is taken back by its opposite. Other data stays."),
    specs.SNAPSHOTS: (
        "By snapshots",
        "The VMs go back to the snapshots that this task took of them. Faster, and everything "
        "written on them since is lost.",
    ),
}


class RollbackForm(forms.Form):
    """How a task is taken back."""

    by = forms.ChoiceField(
        required=False, choices=[(way, label) for way, (label, _) in WAYS.items()]
    )


@dataclass(frozen=True)
class Way:
    """One way back: what it would do, or why it cannot be gone."""

    name: str
    label: str
    words: str
    shown: Shown | None = None
    why_not: str = ""


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def roll_back(request: PageRequest, id: UUID) -> HttpResponse:
    """Ask how a task is to be taken back, with the plan of each way, and make the new task."""
    task = get_object_or_404(Task.objects.visible_to(request.actor).for_page(), pk=id)
    posted = pages.posted(request)
    return pages.dialog(
        request,
        "tasks/rollback.html",
        RollbackForm(posted),
        lambda values: control.roll_back(request.actor, task, by=values["by"] or specs.STEPS),
        back=lambda job: reverse("tasks:task", args=[job.result["task"]]),
        told="The task that rolls back is ready to be started.",
        task=task,
        ways=lambda: _ways(request, task),  # not when it is done already
        chosen=(posted and posted.get("by")) or specs.STEPS,
    )


def _ways(request: PageRequest, task: Task) -> list[Way]:
    found = []
    for name, (label, words) in WAYS.items():
        outcome: dict[str, Any] = {}
        try:
            prepared = control.preview_of_rollback(request.actor, task, by=name)
            outcome["shown"] = shown_of(prepared)
        except Refusal as refusal:
            outcome["why_not"] = refusal.message
        found.append(Way(name, label, words, **outcome))
    return found
