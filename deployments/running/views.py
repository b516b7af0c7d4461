"""The pages of tasks: the list, the running view, and what can be done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import django_filters
from django import forms
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from deployments import access
from deployments.models import StepLog, Task
from deployments.running import control, outline, owning, planwork, report, scheduling
from deployments.running.actions.people import is_late
from deployments.running.policy import APPROVAL
from deployments.states import StepState, TaskState
from orchestrator.web import names, pages
from vms.forms.templates import AccountChoice

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from accounts.actors import Actor
    from deployments.models import Step
    from jobs.models import Job
    from orchestrator.web.pages import PageRequest

LINES = 300  # of a step's log, on the page; the API has them all
OPENED = 200  # blocks that an address may open


class TaskFilters(django_filters.FilterSet):
    """What the list of tasks can be narrowed by."""

    q = django_filters.CharFilter(
        field_name="title",
        lookup_expr="icontains",
        label="Search",
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Application or version"}),
    )
    state = django_filters.ChoiceFilter(
        method="in_state",
        choices=[("open", "open"), *TaskState.choices],
        empty_label="Any state",
    )
    kind = django_filters.ChoiceFilter(choices=Task.Kind.choices, empty_label="Any kind")
    owner = django_filters.ChoiceFilter(
        method="of_owner", choices=[("me", "mine")], empty_label="Anybody’s"
    )

    class Meta:
        model = Task
        fields = ["q", "state", "kind", "owner"]

    def of_owner(self, rows: Any, name: str, word: str) -> Any:
        return rows.filter(owner=self.request.user)

    def in_state(self, rows: Any, name: str, state: str) -> Any:
        return rows.open() if state == "open" else rows.filter(state=state)


class AssignForm(forms.Form):
    """Whose a task is from now on."""

    owner = AccountChoice(
        queryset=User.objects.none(), help_text="Somebody who may control it.", empty_label="–"
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        rows = User.objects.filter(is_active=True).order_by("username")
        self.fields["owner"].queryset = rows  # type: ignore[attr-defined]


class ScheduleForm(forms.Form):
    """When a task starts."""

    at = forms.DateTimeField(
        label="Start at (UTC)",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text="Not in the past, and at most 90 days ahead.",
    )


@pages.page
@require_safe
def task_list(request: PageRequest) -> HttpResponse:
    """List the tasks that the viewer may see, newest first."""
    rows_of = Task.objects.visible_to(request.actor).for_page()
    filters = TaskFilters(request.GET, rows_of, request=request)
    rows = pages.newest_first(request, filters.qs)
    return pages.render(
        request, "tasks/list.html", {"filters": filters, "slice": rows}, partial="rows"
    )


@pages.page
@require_safe
def task_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show a task as it runs. The address tells what is open, and which step's log is shown."""
    task = _task(request, id)
    follow = request.GET.get("follow") != "no"
    opened = outline.open_paths(task, request.GET.getlist("open")[:OPENED], follow=follow)
    rows = outline.Outline(task, opened, _windows(request), request.GET).rows()
    step = _shown_step(task, request.GET.get("step", ""))
    context = {
        "task": task,
        "can": offered(request.actor, task),
        "rows": rows,
        "follow": follow,
        "following": _with(request, follow=None, open=None, at=None, step=None),
        "step": step,
        "lines": _lines(step),
        "step_can": step_offered(request.actor, task, step),
        "log_link": _with(request, step=None),
        "time_line": outline.time_line(task),
        "notes": task.notes.order_by("-id")[:100],
        "counts": sorted(report.steps_by_state(task).items()),
        "outcome": report.outcome(task),
        "changes": task.planned.get("deltas", [])[:100],
        "names": names.of([step.subject] if step else []),
    }
    return pages.render(request, "tasks/task.html", context, partial="live")


def _task(request: PageRequest, id: UUID) -> Task:
    found: Task = get_object_or_404(Task.objects.visible_to(request.actor).for_page(), pk=id)
    return found


def _windows(request: PageRequest) -> dict[str, int]:
    found = {}
    for one in request.GET.getlist("at")[:OPENED]:
        path, _, offset = one.partition(":")
        if offset.isascii() and offset.isdecimal() and len(offset) < 8:
            found[path] = int(offset)
    return found


def _with(request: PageRequest, **changes: str | None) -> str:
    query = request.GET.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value is not None:
            query[name] = value
    return query.urlencode()


def _shown_step(task: Task, path: str) -> Step | None:
    """Return the step whose log is shown: the one asked for, else the one that is current."""
    if path:
        return planwork.step_at(task, path)
    current = report.current_steps(task, 1)
    return current[0] if current else None


def _lines(step: Step | None) -> list[StepLog]:
    if step is None:
        return []
    newest = StepLog.objects.filter(step=step).order_by("-id")[:LINES]
    return list(newest)[::-1]


@pages.page
@require_safe
def step_log(request: PageRequest, id: UUID, path: str) -> HttpResponse:
    """Show the lines of a step's log behind the line `after`, and what asks for those that follow.

    A step that has ended asks for no more: the task has told of its end.
    """
    task = _task(request, id)
    step = planwork.step_at(task, path)
    after = request.GET.get("after", "")
    known = int(after) if after.isascii() and after.isdecimal() and len(after) < 19 else 0
    rows = StepLog.objects.filter(step=step, pk__gt=known).order_by("id")[:LINES]
    context = {"task": task, "step": step, "lines": list(rows), "known": known}
    return pages.render(request, "tasks/log.html", context, partial="lines")


def offered(actor: Actor, task: Task) -> set[str]:
    """Return the verbs that a page offers; each verb itself decides."""
    if not (actor.can("deployments.run") and access.may(actor, task.environment, access.CONTROL)):
        return set()
    found: dict[str, list[str]] = {
        "start": [TaskState.PENDING, TaskState.SCHEDULED],
        "continue": TaskState.resumable(),
        "schedule": [TaskState.PENDING, TaskState.SCHEDULED, *TaskState.resumable()],
        "stop": [TaskState.EXECUTING, TaskState.QUEUED],
        "abort": [TaskState.EXECUTING, TaskState.FAILING, TaskState.STOPPING],
        "cancel": [TaskState.PENDING, TaskState.SCHEDULED, *TaskState.resumable()],
        "archive": [TaskState.EXECUTED],
        "rollback": [*TaskState.resumable(), TaskState.EXECUTED],
        "force": [TaskState.QUEUED, *TaskState.running()],
    }
    if not task.is_final and actor.can("deployments.assign"):
        found |= {"take-over": [task.state], "assign": [task.state]}
    verbs = {verb for verb, states in found.items() if task.state in states}
    if not actor.can("deployments.force"):
        verbs.discard("force")
    if task.owner_id == actor.user_id:
        verbs.discard("take-over")
    if not task.runs:
        verbs.discard("rollback")
    if not access.may(actor, task.environment, access.DEPLOY):
        verbs -= {"start", "rollback", *(() if task.runs else ("schedule", "continue"))}
    return verbs


def step_offered(actor: Actor, task: Task, step: Step | None) -> set[str]:
    """Return what a page offers to do with a step."""
    if step is None or not actor.can("deployments.run") or step.block.always or task.is_final:
        return set()
    if not access.may(actor, task.environment, access.CONTROL):
        return set()
    found = set()
    approves = step.kind == APPROVAL and planwork.may_approve(actor, step)
    if actor.can("deployments.skip"):
        if step.state in StepState.skippable() and (approves or step.kind != APPROVAL):
            found.add("skip")
        if step.state == StepState.SKIP:
            found.add("unskip")
    if step.state in (StepState.PENDING, StepState.SKIP):
        found.add("pause")
    if approves and step.state == StepState.PAUSED and not is_late(step):
        found.add("approve")
    return found


# What can be done --------------------------------------------------------------------------------

VERBS: dict[str, tuple[Callable[[Actor, Task], Job], str]] = {
    "start": (control.start, "The task was started."),
    "continue": (control.start, "The task goes on."),
    "stop": (control.stop, "Running steps end, nothing new starts."),
    "abort": (control.abort, "The running steps are interrupted."),
    "archive": (control.archive, "The task was archived."),
    "take-over": (owning.take_over, "The task is yours."),
}
# Verbs that are asked about first: their title, what they do, and the label of the button.
ASKED: dict[str, tuple[Callable[[Actor, Task], Job], str, str, str]] = {
    "cancel": (
        control.cancel,
        "Cancel",
        "What was done so far stays, and is registered. A task that never ran is removed.",
        "The task was cancelled.",
    ),
    "force": (
        control.force_cancel,
        "Cancel by force",
        "For a task that is stuck: its steps are interrupted, and what can be registered is.",
        "The task was cancelled by force.",
    ),
}


@pages.page
@require_POST
def verb(request: PageRequest, id: UUID, verb: str) -> HttpResponse:
    """Do what needs no words."""
    act, told = VERBS[verb]
    act(request.actor, _task(request, id))
    return pages.done(request, reverse("tasks:task", args=[id]), told)


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: PageRequest, id: UUID, verb: str) -> HttpResponse:
    """Ask before giving something up."""
    task = _task(request, id)
    act, title, words, told = ASKED[verb]

    def back(job: Job) -> str:
        if task.state == TaskState.PENDING:
            return reverse("tasks:list")
        return reverse("tasks:task", args=[id])

    return pages.dialog(
        request,
        "tasks/dialog.html",
        forms.Form(pages.posted(request)),
        lambda values: act(request.actor, task),
        back=back,
        told=told,
        task=task,
        title=title,
        words=words,
        danger=True,
    )


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def schedule(request: PageRequest, id: UUID) -> HttpResponse:
    """Choose when a task starts."""
    task = _task(request, id)
    return pages.dialog(
        request,
        "tasks/dialog.html",
        ScheduleForm(pages.posted(request)),
        lambda values: scheduling.schedule(request.actor, task, **values),
        back=reverse("tasks:task", args=[id]),
        told="The task is scheduled.",
        task=task,
        title="Schedule",
        words="It starts by itself at this time, with the rights that you have then.",
    )


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def assign(request: PageRequest, id: UUID) -> HttpResponse:
    """Choose whose a task is."""
    task = _task(request, id)
    request.actor.require("deployments.assign")
    return pages.dialog(
        request,
        "tasks/dialog.html",
        AssignForm(pages.posted(request)),
        lambda values: owning.assign(request.actor, task, **values),
        back=reverse("tasks:task", args=[id]),
        told="The task was assigned.",
        task=task,
        title="Assign",
        words="Whoever owns a task sees it, whatever their roles. Its steps act as who started it.",
    )


@pages.page
@require_POST
def step_verb(request: PageRequest, id: UUID, path: str, verb: str) -> HttpResponse:
    """Skip, unskip, approve a step, or pause before it."""
    task = _task(request, id)
    actor = request.actor
    if verb == "skip":
        planwork.skip(actor, task, paths=[path])
    elif verb == "unskip":
        planwork.unskip(actor, task, paths=[path])
    elif verb == "pause":
        planwork.add_pause(actor, task, path=path)
    else:
        planwork.approve(actor, task, path=path)
    told = {
        "skip": "The step will be skipped.",
        "unskip": "The step will run.",
        "pause": "The task will pause before this step.",
        "approve": "Approved: the task goes on.",
    }
    return pages.done(request, reverse("tasks:task", args=[id]), told[verb])


@pages.page
@require_safe
def download(request: PageRequest, id: UUID, form: str) -> HttpResponse:
    """Download the report of a task: all of it as JSON, its steps as CSV."""
    task = _task(request, id)
    if form == "csv":
        body, kind = report.as_csv(task), "text/csv; charset=utf-8"
    else:
        body, kind = json.dumps(report.make(task), indent=2), "application/json"
    name = f"task-{task.pk}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return HttpResponse(body, content_type=kind, headers=headers)
