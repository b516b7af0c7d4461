"""`/api/v2/tasks/`: deployments being run, and what can be done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from rest_framework.response import Response

from accounts.models import User
from deployments import specs
from deployments.api.previews import PreviewOutput
from deployments.models import Application, Environment, Package, Step, StepLog, Task
from deployments.running import control, owning, planwork, report, scheduling
from deployments.running.shapes import (
    AssignInput,
    BlockOutput,
    CancelInput,
    OpenBlockOutput,
    PathInput,
    PathsInput,
    PauseInput,
    PlanOutput,
    ReportOutput,
    RollbackInput,
    ScheduleInput,
    StepLineOutput,
    StepOutput,
    TaskInput,
    TaskOutput,
)
from deployments.states import StepState, TaskState
from jobs.api import VerbView
from orchestrator.api.pagination import InOrder
from orchestrator.api.references import resolve
from orchestrator.api.routing import route
from orchestrator.api.views import ApiView, Lists, Posts, Shows
from orchestrator.refusals import Conflict

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet
    from rest_framework.request import Request

    from jobs.models import Job


class TaskFilter(django_filters.FilterSet):
    state = django_filters.MultipleChoiceFilter(choices=TaskState.choices)
    kind = django_filters.MultipleChoiceFilter(choices=Task.Kind.choices)
    environment = django_filters.UUIDFilter(field_name="environment_id")
    package = django_filters.UUIDFilter(field_name="package_id")
    owner = django_filters.UUIDFilter(field_name="owner_id")

    class Meta:
        model = Task
        fields = ["state", "kind", "environment", "package", "owner"]


class StepFilter(django_filters.FilterSet):
    state = django_filters.MultipleChoiceFilter(choices=StepState.choices)
    subject = django_filters.CharFilter(help_text="`vm:<id>`.")

    class Meta:
        model = Step
        fields = ["state", "subject"]


class TaskView(ApiView):
    tag = "tasks"
    model: ClassVar[type[Model]] = Task
    output: Any = TaskOutput

    def rows(self) -> QuerySet[Any]:
        return Task.objects.visible_to(self.actor).for_page()

    def task(self) -> Task:
        found: Task = self.find(self.kwargs["id"], Task.objects.visible_to(self.actor).for_page())
        return found


class TaskList(TaskView, Lists, Posts):
    input = TaskInput
    filterset_class = TaskFilter
    permission = "deployments.run"
    docs = {
        "GET": "List the tasks that you may see, newest first.",
        "POST": "Plan a deployment as a task, which then waits to be started.",
    }

    def perform(self, data: dict[str, Any]) -> Task:
        actor = self.actor
        actor.require("deployments.run")
        seen = data.pop("fingerprint", "")
        data["environment"] = resolve(
            Environment.objects.visible_to(actor), data["environment"], field="environment"
        )
        if "package" in data:
            data["package"] = self.find(data["package"], Package.objects.visible_to(actor))
        if "application" in data:
            data["application"] = resolve(
                Application.objects.visible_to(actor), data["application"], field="application"
            )
        prepared = specs.prepare(actor=actor, **data)
        if seen and seen != prepared.fingerprint:
            raise Conflict(
                "Something has changed since you looked: this would be planned otherwise now. Look "
                "again.",
                code="plan_changed",
            )
        asked = {
            name: str(value.pk) if name in ("package", "application") else value
            for name, value in data.items()
            if name != "environment"
        }
        made = control.create(actor, prepared, asked=asked)
        return Task.objects.for_page().get(pk=made.pk)


class TaskItem(TaskView, Shows):
    docs = {"GET": "Show a task."}


class TaskPlan(TaskView):
    output = PlanOutput
    docs = {"GET": "Show the blocks of a task's plan, without its steps."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        blocks = sorted(self.task().blocks.all(), key=lambda one: planwork.place_of(one.path))
        return Response(self.represent({"blocks": blocks}))


class TaskBlock(TaskView):
    output = OpenBlockOutput
    docs = {"GET": "Show a block by its path, with the blocks or steps that it holds."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        block = planwork.block_at(self.task(), self.kwargs["path"])
        shown = BlockOutput(block).data
        children = block.children.order_by("position")
        steps = block.steps.select_related("block").order_by("position")
        return Response(
            {
                **shown,
                "blocks": BlockOutput(children, many=True).data,
                "steps": StepOutput(steps, many=True).data,
            }
        )


class TaskSteps(TaskView, Lists):
    model = Step
    output = StepOutput
    pagination_class = InOrder
    filterset_class = StepFilter
    docs = {"GET": "List the steps of a task."}

    def rows(self) -> QuerySet[Step]:
        return Step.objects.filter(task=self.task()).select_related("block")


class TaskStep(TaskView):
    output = StepOutput
    docs = {"GET": "Show a step by its path."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        return Response(self.represent(planwork.step_at(self.task(), self.kwargs["path"])))


class TaskStepLog(TaskView, Lists):
    model = StepLog
    output = StepLineOutput
    pagination_class = InOrder
    docs = {"GET": "Read a step's log, of all attempts, oldest line first."}

    def rows(self) -> QuerySet[StepLog]:
        step = planwork.step_at(self.task(), self.kwargs["path"])
        return StepLog.objects.filter(step=step)


class TaskReport(TaskView):
    output = ReportOutput
    docs = {"GET": "Read what a task did: timeline, durations, who, what changed."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        return Response({"report": report.make(self.task())})


class TaskVerb(TaskView, VerbView):
    output = VerbView.output
    permission = "deployments.run"


class TaskStart(TaskVerb):
    docs = {
        "POST": "Start a task, or let it go on. Its job ends when the task comes to rest, failed "
        "if that has failed."
    }

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return control.start(self.actor, target)


class TaskSchedule(TaskVerb):
    input = ScheduleInput
    docs = {"POST": "Let a task start at a time."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return scheduling.schedule(self.actor, target, **data)


class TaskStop(TaskVerb):
    docs = {"POST": "Stop gracefully: running steps end, nothing new starts."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return control.stop(self.actor, target)


class TaskAbort(TaskVerb):
    docs = {"POST": "Interrupt the running steps: they fail, and the task is aborted."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return control.abort(self.actor, target)


class TaskCancel(TaskVerb):
    input = CancelInput
    docs = {"POST": "Give a task up: what was done so far is registered. A pending one is removed."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        verb = control.force_cancel if data.get("force") else control.cancel
        return verb(self.actor, target)


class TaskArchive(TaskVerb):
    docs = {"POST": "Archive a task that has executed."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return control.archive(self.actor, target)


class TaskRollback(TaskVerb):
    input = RollbackInput
    docs = {
        "POST": "Make the task that takes this one back, and finish this one. The job's result has "
        "the id of the new task, which is to be started."
    }

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return control.roll_back(self.actor, target, by=data.get("by", specs.STEPS))


class TaskRollbackPreview(TaskView):
    input = RollbackInput
    output = PreviewOutput
    status = 200
    docs = {
        "POST": "See what rolling a task back would do: changes, plan, warnings. Nothing is done."
    }

    def post(self, request: Request, **kwargs: Any) -> Response:
        by = self.read_body(self.input).get("by", specs.STEPS)
        return Response(self.represent(control.preview_of_rollback(self.actor, self.task(), by=by)))


class TaskTakeOver(TaskVerb):
    permission = "deployments.assign"
    docs = {"POST": "Become the owner of a task. Steps that run act as who started it, as before."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return owning.take_over(self.actor, target)


class TaskAssign(TaskVerb):
    input = AssignInput
    permission = "deployments.assign"
    docs = {"POST": "Make somebody else the owner of a task, who may control it."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        self.actor.require("deployments.assign")
        # As with grants: whoever may assign may name any account whose exact name they know.
        owner = resolve(User.objects.all(), data["owner"], field="owner", name="username")
        return owning.assign(self.actor, target, owner=owner)


class TaskSkip(TaskVerb):
    input = PathsInput
    permission = "deployments.skip"
    docs = {"POST": "Mark steps to be skipped."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return planwork.skip(self.actor, target, **data)


class TaskUnskip(TaskVerb):
    input = PathsInput
    permission = "deployments.skip"
    docs = {"POST": "Take marks to skip steps away again."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return planwork.unskip(self.actor, target, **data)


class TaskPause(TaskVerb):
    input = PauseInput
    docs = {"POST": "Add a pause before a step, or behind it."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return planwork.add_pause(self.actor, target, **data)


class TaskApprove(TaskVerb):
    input = PathInput
    docs = {"POST": "Approve at an approval point, and let the task go on."}

    def act(self, target: Task, data: dict[str, Any]) -> Job:
        return planwork.approve(self.actor, target, **data)


_one = "tasks/<uuid:id>"
urlpatterns = [
    route("tasks/", TaskList, "tasks"),
    route(f"{_one}/", TaskItem, "task"),
    route(f"{_one}/plan/", TaskPlan, "task-plan"),
    route(f"{_one}/blocks/<str:path>/", TaskBlock, "task-block"),
    route(f"{_one}/steps/", TaskSteps, "task-steps"),
    route(f"{_one}/steps/<str:path>/", TaskStep, "task-step"),
    route(f"{_one}/steps/<str:path>/log/", TaskStepLog, "task-step-log"),
    route(f"{_one}/report/", TaskReport, "task-report"),
    route(f"{_one}/start/", TaskStart, "task-start"),
    route(f"{_one}/continue/", TaskStart, "task-continue"),
    route(f"{_one}/schedule/", TaskSchedule, "task-schedule"),
    route(f"{_one}/stop/", TaskStop, "task-stop"),
    route(f"{_one}/abort/", TaskAbort, "task-abort"),
    route(f"{_one}/cancel/", TaskCancel, "task-cancel"),
    route(f"{_one}/archive/", TaskArchive, "task-archive"),
    route(f"{_one}/rollback/", TaskRollback, "task-rollback"),
    route(f"{_one}/take-over/", TaskTakeOver, "task-take-over"),
    route(f"{_one}/assign/", TaskAssign, "task-assign"),
    route(f"{_one}/rollback/preview/", TaskRollbackPreview, "task-rollback-preview"),
    route(f"{_one}/skip/", TaskSkip, "task-skip"),
    route(f"{_one}/unskip/", TaskUnskip, "task-unskip"),
    route(f"{_one}/pause/", TaskPause, "task-pause"),
    route(f"{_one}/approve/", TaskApprove, "task-approve"),
]
