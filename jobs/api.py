"""`/api/v2/jobs/`, and the base of every verb: a POST that answers 202 with its job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from django.urls import reverse
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.serializers import UserReference
from jobs import queueing
from jobs.models import Job, JobLine
from orchestrator.api.pagination import InOrder
from orchestrator.api.routing import route
from orchestrator.api.serializers import Output, ReferenceOutput
from orchestrator.api.views import ApiView, Lists, Posts, Shows
from orchestrator.web import waiting

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


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


urlpatterns = [
    route("jobs/", JobList, "jobs"),
    route("jobs/<uuid:id>/", JobItem, "job"),
    route("jobs/<uuid:id>/log/", JobLog, "job-log"),
    route("jobs/<uuid:id>/cancel/", JobCancel, "job-cancel"),
]
