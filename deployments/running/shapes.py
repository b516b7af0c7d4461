"""What tasks look like in API v2, and what its requests may hold."""

from __future__ import annotations

from rest_framework import serializers

from accounts.api.serializers import UserReference
from deployments.models import Block, Task
from deployments.specs import SNAPSHOTS, STEPS
from deployments.states import BlockState, StepState, TaskState
from orchestrator.api.serializers import (
    Flag,
    Input,
    Moment,
    OneOf,
    Output,
    ReferenceOutput,
    Text,
    Texts,
)


class TaskOutput(Output):
    """A deployment being run."""

    id = serializers.UUIDField()
    kind = serializers.ChoiceField(Task.Kind.choices)
    title = serializers.CharField()
    state = serializers.ChoiceField(TaskState.choices)
    reason = serializers.CharField(help_text="Why it waits, or rests.")
    environment = ReferenceOutput(allow_null=True)
    package = serializers.SerializerMethodField(help_text="Its name with its version.")
    owner = UserReference(allow_null=True)
    started_by = UserReference(allow_null=True, help_text="As whom its steps act.")
    steps_done = serializers.IntegerField()
    steps_total = serializers.IntegerField()
    runs = serializers.IntegerField(help_text="How often it was started or continued.")
    fingerprint = serializers.CharField()
    policy = serializers.DictField()
    rollback_of = serializers.UUIDField(source="rollback_of_id", allow_null=True)
    job = serializers.UUIDField(source="job_id", allow_null=True, help_text="What drives it.")
    scheduled_for = serializers.DateTimeField(
        allow_null=True, help_text="When its start is tried; later than `due_at` after a refusal."
    )
    due_at = serializers.DateTimeField(allow_null=True, help_text="When it was to start.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True, help_text="When it came to rest.")
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_package(self, task: Task) -> str:
        return task.package.title if task.package else ""


class BlockOutput(Output):
    """A block of a plan: a leaf with steps, or a composite with blocks."""

    path = serializers.CharField(help_text="`0_1_1`.")
    kind = serializers.ChoiceField(Block.Kind.choices)
    label = serializers.CharField()  # type: ignore[assignment]
    state = serializers.ChoiceField(BlockState.choices)
    made_by = serializers.CharField(help_text="The orchestrator that made it.")
    key = serializers.CharField(help_text="From what: a container, a group …")
    tolerated = serializers.BooleanField()
    steps_done = serializers.IntegerField()
    steps_total = serializers.IntegerField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)


class StepOutput(Output):
    """A step of a plan."""

    id = serializers.UUIDField()
    path = serializers.CharField(help_text="`0_1_1_2`.")
    number = serializers.IntegerField()
    order = serializers.IntegerField()
    text = serializers.CharField()
    kind = serializers.CharField()
    subject = serializers.CharField(help_text="What it acts on: `vm:<id>`.")
    deployeds = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Pairs of deployed and container.",
    )
    checkpoint = serializers.BooleanField()
    repeatable = serializers.BooleanField()
    state = serializers.ChoiceField(StepState.choices)
    reason = serializers.CharField()
    attempt = serializers.IntegerField()
    failures = serializers.IntegerField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)


class OpenBlockOutput(BlockOutput):
    """A block with what it holds, one level deep."""

    blocks = BlockOutput(many=True)
    steps = StepOutput(many=True)


class PlanOutput(Output):
    """All blocks of a task, in listing order; the paths tell how they are nested."""

    blocks = BlockOutput(many=True)


class StepLineOutput(Output):
    """One line of a step's log."""

    id = serializers.IntegerField(help_text="Ask `?after=` this number for what follows.")
    attempt = serializers.IntegerField()
    at = serializers.DateTimeField()
    text = serializers.CharField()


class ReportOutput(Output):
    """What a task did: timeline, durations, who, what changed."""

    report = serializers.DictField()


class TaskInput(Input):
    environment = Text(max_length=100, help_text="Id or name.")
    package = serializers.UUIDField(required=False, help_text="What is deployed.")
    application = Text(max_length=100, required=False, help_text="Id or name: what is undeployed.")
    operation = OneOf(["deploy", "undeploy"], required=False, help_text="Default: deploy.")
    mapping = serializers.DictField(
        child=Texts(), required=False, help_text="Deployable → paths of containers, `vm:<id>`."
    )
    orchestrators = Texts(required=False, help_text="The first is outermost.")
    options = serializers.DictField(required=False)
    fingerprint = Text(
        max_length=64,
        required=False,
        help_text="Of the preview: refuses when something else would be planned now.",
    )


class PathsInput(Input):
    paths = Texts(min_length=1, help_text="Of steps, or of blocks with all that they hold.")


class PathInput(Input):
    path = Text(max_length=200, help_text="`0_1_1_2`.")


class PauseInput(PathInput):
    after = Flag(required=False, help_text="Behind the step instead of before it.")


class ScheduleInput(Input):
    at = Moment(help_text="Not in the past, and at most 90 days ahead.")


class AssignInput(Input):
    owner = Text(max_length=150, help_text="Id or name of an account that may control the task.")


class CancelInput(Input):
    force = Flag(required=False, help_text="Whatever it does; takes a permission of its own.")


class RollbackInput(Input):
    by = OneOf(
        [(STEPS, STEPS), (SNAPSHOTS, SNAPSHOTS)],
        default=STEPS,
        help_text="Inverse steps; or the snapshots that the task took of all VMs that it changed, "
        "which is faster and loses what was written since.",
    )
