"""`/api/v2/jobs/`, and the base of every verb: a POST that answers 202 with its job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from django.http import QueryDict
from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.serializers import HitOutput, UserReference
from jobs import batches, queueing
from jobs.models import BatchItem, Job, JobLine
from orchestrator.api.pagination import InOrder
from orchestrator.api.routing import route
from orchestrator.api.serializers import Input, Output, ReferenceOutput, Text, Whole
from orchestrator.api.views import ApiView, Lists, Posts, Shows
from orchestrator.refusals import Invalid, NotFound
from orchestrator.web import waiting

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


SHOWN_REFUSED = 200  # items, in a preview


class JobOutput(Output):
    """One durable piece of work."""

    id = serializers.UUIDField()
    kind = serializers.CharField(help_text="`vm.create`.")
    state = serializers.ChoiceField(Job.State.choices)
    progress = serializers.IntegerField(min_value=0, max_value=100, help_text="Percent.")
    message = serializers.CharField()
    result = serializers.DictField(
        help_text="Of `vm.execute`: exit_code, stdout, stderr, timed_out."
    )
    error = serializers.CharField()
    subject = serializers.CharField(help_text="What it is about: `vm:<id>`.")
    parent = serializers.UUIDField(  # type: ignore[assignment]
        source="parent_id", allow_null=True
    )
    requested_by = UserReference(source="actor", allow_null=True)
    token = ReferenceOutput(allow_null=True)
    failures = serializers.IntegerField(help_text="Failed tries so far.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class JobLineOutput(Output):
    """One line of a job's log."""

    id = serializers.IntegerField(help_text="Ask `?after=` this number for what follows.")
    at = serializers.DateTimeField()
    text = serializers.CharField()


class JobFilter(django_filters.FilterSet):
    kind = django_filters.CharFilter(help_text="`vm.create`.")
    state = django_filters.MultipleChoiceFilter(choices=Job.State.choices)
    subject = django_filters.CharFilter(help_text="`vm:<id>`.")
    parent = django_filters.UUIDFilter(field_name="parent_id")

    class Meta:
        model = Job
        fields = ["kind", "state", "subject", "parent"]


class ItemFilter(django_filters.FilterSet):
    outcome = django_filters.MultipleChoiceFilter(
        choices=[*BatchItem.State.choices, *Job.State.choices]
    )

    class Meta:
        model = BatchItem
        fields: list[str] = []


class JobView(ApiView):
    """An endpoint that shows jobs."""

    tag = "jobs"
    model = Job
    output = JobOutput

    def rows(self) -> QuerySet[Job]:
        return Job.objects.visible_to(self.actor).for_page()


class VerbView(Posts):
    """POST on an object: `act()` calls the domain function and returns its job.

    `rows()` and `model` are those of the object; the answer is 202 with the job. With
    `Prefer: wait` it is held until the job ends and is then 200 with the job as it is by then.
    """

    output = JobOutput
    status = 202
    may_wait: ClassVar[bool] = True
    held_statuses: ClassVar[tuple[str, ...]] = ("200",)

    def act(self, target: Any, data: dict[str, Any]) -> Job:
        """Call the domain function."""
        raise NotImplementedError(f"{type(self).__name__}.act")

    def perform(self, data: dict[str, Any]) -> Job:
        return self.act(self.target(), data)

    def results(self) -> QuerySet[Job]:
        return Job.objects.visible_to(self.actor).for_page()

    def answer(self, thing: Job) -> Response:
        return answer_with_job(thing)


class DeletesByVerb(ApiView):
    """DELETE on an object: `remove()` calls the domain function, the answer is as of a verb."""

    delete_output = JobOutput
    may_wait: ClassVar[bool] = True
    held_statuses: ClassVar[tuple[str, ...]] = ("200",)

    def remove(self, target: Any) -> Job:
        """Call the domain function."""
        raise NotImplementedError(f"{type(self).__name__}.remove")

    def delete(self, request: Request, **kwargs: Any) -> Response:
        return answer_with_job(self.remove(self.target()))


def answer_with_job(job: Job) -> Response:
    """Return 202 with `job`; a caller who prefers to wait gets 200 with it when it has ended."""
    fresh = Job.objects.for_page().get(pk=job.pk)  # times are written as the database's now
    response = Response(JobOutput(fresh).data, status=202)
    url = reverse("api:job", kwargs={"id": job.pk})
    waiting.hold(response, job.pk, url, 200)
    return response


class JobList(JobView, Lists):
    filterset_class = JobFilter
    docs = {"GET": "List the jobs that you may see, newest first."}


class JobItem(JobView, Shows):
    docs = {"GET": "Show a job: its state, progress, and result or error."}


class JobLog(Lists):
    tag = "jobs"
    model = JobLine
    output = JobLineOutput
    pagination_class = InOrder
    docs = {
        "GET": "Read a job's log, oldest line first. Follow it by asking `?after=` the last `id`."
    }

    def rows(self) -> QuerySet[JobLine]:
        job = self.find(self.kwargs["id"], Job.objects.visible_to(self.actor))
        return JobLine.objects.filter(job=job)


class JobCancel(JobView, VerbView):
    docs = {
        "POST": "Ask a job to stop. What it has under way is undone first; answers with the job."
    }

    def act(self, target: Job, data: dict[str, Any]) -> Job:
        return queueing.cancel(self.actor, target)


class Filter(serializers.DictField):
    """Filters as of a list's address: by name a text, or several for those that take them."""

    default_error_messages = {"bad_value": "Give texts, or lists of texts."}

    def to_internal_value(self, data: Any) -> Any:
        query = QueryDict(mutable=True)
        for name, value in super().to_internal_value(data).items():
            values = value if isinstance(value, list) else [value]
            if not values or not all(isinstance(one, str) for one in values):
                self.fail("bad_value")
            query.setlist(name, values)
        return query


class SelectionInput(Input):
    verb = Text(max_length=60, help_text="`vm.stop`: a verb on VMs, hosts or grants.")
    ids = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        min_length=1,
        max_length=batches.MAXIMUM_ITEMS,
        help_text="Of the things; or else `filter`.",
    )
    filter = Filter(
        required=False,
        help_text="All that match, with the filters of the list: "
        '`{"state": ["running"], "template": "ubuntu-ci"}`. An empty one selects all.',
    )


class BatchInput(SelectionInput):
    options = serializers.DictField(
        required=False, help_text="As the body of the verb on one of them."
    )
    selection = Text(
        max_length=32,
        required=False,
        help_text="Of the preview: refuses when other things would be acted on than it said.",
    )
    at_once = Whole(
        min_value=1,
        max_value=batches.MAXIMUM_ITEMS,
        required=False,
        help_text=f"How many may be under way at a time. Default: {batches.AT_ONCE}.",
    )


class RefusedItemOutput(Output):
    """A thing that would be refused now, and why."""

    name = serializers.CharField()
    reason = serializers.CharField()


class BatchPreviewOutput(Output):
    """What a batch would do now."""

    verb = serializers.CharField(source="kind")
    total = serializers.IntegerField()
    ready = serializers.IntegerField(help_text="Of `total`, those that the verb is open to now.")
    refused = serializers.SerializerMethodField(
        help_text=f"At most {SHOWN_REFUSED} of them are shown."
    )
    selection = serializers.CharField(help_text="Send it along to act on exactly these.")
    hits = HitOutput(
        many=True, allow_null=True, help_text="What a revocation reaches; null for other verbs."
    )

    @extend_schema_field(RefusedItemOutput(many=True))
    def get_refused(self, seen: batches.Preview) -> Any:
        return RefusedItemOutput(seen.refused[:SHOWN_REFUSED], many=True).data


class BatchItemOutput(Output):
    """One thing that a batch acts on."""

    id = serializers.UUIDField()
    subject = serializers.CharField(help_text="`vm:<id>`.")
    name = serializers.CharField()
    outcome = serializers.ChoiceField(
        [*BatchItem.State.choices, *Job.State.choices],
        help_text="The state of its job, or why it has none: waiting, refused, dropped.",
    )
    job = serializers.UUIDField(source="job_id", allow_null=True)
    error = serializers.SerializerMethodField(help_text="Why it was refused, or has failed.")

    def get_error(self, item: BatchItem) -> str:
        return item.error or (item.job.error if item.job else "")


def selected(actor: Any, data: dict[str, Any]) -> Any:
    """Return the things that `ids` or `filter` mean. Raises `Invalid`."""
    noun = batches.verb_of(data["verb"]).noun
    ids, query = data.pop("ids", None), data.pop("filter", None)
    if (ids is None) == (query is None):
        raise Invalid("Give either ids or a filter.", errors={"ids": ["Give these or a filter."]})
    if ids is None:
        return noun.narrow_api(actor, query)[: batches.MAXIMUM_ITEMS + 1]
    found = list(noun.rows(actor).filter(pk__in=ids))
    if len(found) < len(set(ids)):
        missing = set(ids) - {one.pk for one in found}
        raise NotFound(f"There is no {noun.word} {min(missing)} that you may see.")
    return found


class BatchPreview(ApiView):
    tag = "jobs"
    model = Job
    input = SelectionInput
    output = BatchPreviewOutput
    status = 200
    docs = {"POST": "See what a batch would do, and to how many; nothing is done."}

    def post(self, request: Request, **kwargs: Any) -> Response:
        data = self.read_body(self.input)
        found = selected(self.actor, data)
        return Response(self.represent(batches.preview(self.actor, data["verb"], found)))


class BatchList(JobView, VerbView):
    """A batch is a job: it is read, waited for and cancelled as one."""

    input = BatchInput
    output = VerbView.output
    docs = {
        "POST": "Ask for one verb on many VMs or hosts. Each takes its rights when its turn comes, "
        "and what is refused stops no other."
    }

    def perform(self, data: dict[str, Any]) -> Job:
        verb = batches.verb_of(data["verb"])
        options = verb.options(data=data.get("options", {}))
        if not options.is_valid():
            texts = {
                f"options.{name}": [str(text) for text in found]
                for name, found in options.errors.items()
            }
            raise Invalid("The options do not fit the verb.", errors=texts)
        found = selected(self.actor, data)
        return batches.request(
            self.actor, data.pop("verb"), found, **data | {"options": dict(options.validated_data)}
        )


class JobItems(Lists):
    tag = "jobs"
    model = BatchItem
    output = BatchItemOutput
    pagination_class = InOrder
    filterset_class = ItemFilter
    docs = {"GET": "List what a batch acts on, and what became of each."}

    def rows(self) -> QuerySet[BatchItem]:
        job = self.find(self.kwargs["id"], Job.objects.visible_to(self.actor))
        return BatchItem.objects.filter(batch=job).with_outcome().select_related("job")


class JobRetry(JobView, VerbView):
    docs = {
        "POST": "Ask again for what a batch did not get done, as a new batch. Answers with that."
    }

    def act(self, target: Job, data: dict[str, Any]) -> Job:
        return batches.retry(self.actor, target)


urlpatterns = [
    route("batches/", BatchList, "batches"),
    route("batches/preview/", BatchPreview, "batch-preview"),
    route("jobs/<uuid:id>/items/", JobItems, "job-items"),
    route("jobs/<uuid:id>/retry/", JobRetry, "job-retry"),
    route("jobs/", JobList, "jobs"),
    route("jobs/<uuid:id>/", JobItem, "job"),
    route("jobs/<uuid:id>/log/", JobLog, "job-log"),
    route("jobs/<uuid:id>/cancel/", JobCancel, "job-cancel"),
]
