"""Our jobs as the contract's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q

from compat.machines.finding import as_id
from compat.wire.answers import answer, compact, empty, rfc3339
from compat.wire.endpoints import Endpoint, route
from jobs import dismissing
from jobs.models import Job
from orchestrator.refusals import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor

SHOWN = 500  # of a list, which has no pages in this API
STATES = {
    Job.State.QUEUED: "pending",
    Job.State.RUNNING: "running",
    Job.State.CANCELLING: "running",
    Job.State.DONE: "completed",
    Job.State.FAILED: "failed",
    Job.State.CANCELLED: "failed",
}
_TYPES = {"vm.create": ("orchestrator", "create"), "host.cache_delete": ("catalog", "cache_delete")}
_NOUNS = {"vm": "machines", "host": "orchestrator", "image": "catalog"}
# The steps of a create, with the parts of its progress at which each begins.
_CREATE_STEPS = (
    ("place", "Finding a host", 5),
    ("create", "Creating the virtual machine", 55),
    ("confirm", "Starting the virtual machine", 40),
)


def shown_job(actor: Actor, job: Job) -> dict[str, Any]:
    """Return the record of one job."""
    return shown_jobs(actor, [job])[0]


def shown_jobs(actor: Actor, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Return the records of jobs that come with their actors."""
    return [_record(actor, job) for job in jobs]


def _record(actor: Actor, job: Job) -> dict[str, Any]:
    noun, _, verb = job.kind.partition(".")
    kind, operation = _TYPES.get(job.kind, (_NOUNS.get(noun, noun), verb))
    asker = job.actor
    vm_id = job.result.get("vm") if job.state == Job.State.DONE else None
    error = job.error
    if job.state == Job.State.CANCELLED:
        error = job.message or "It was cancelled."
    told = compact(
        {
            "message": job.message,
            "steps": _steps(job) if job.kind == "vm.create" else [],
            "result": f"Virtual machine {vm_id} {operation}" if vm_id else job.message,
            "result_record_id": vm_id,
            "result_record_name": job.result.get("name") if vm_id else None,
            "result_record_type": "virtual_machine" if vm_id else None,
            "error": error,
        }
    )
    if job.state not in Job.State.final():
        told.pop("result", None)
    foreign_name = job.external_id if asker and asker.pk == actor.user_id else ""
    return {
        "id": foreign_name or str(job.pk),
        "owner": str(asker.pk) if asker else "",
        "owner_name": asker.username if asker else "",
        "owner_email": asker.email if asker else "",
        "state": STATES[Job.State(job.state)],
        "progress": 100 if job.state == Job.State.DONE else job.progress,
        "job_type": kind,
        "job_operation": operation,
        **told,
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.finished_at or job.created_at),
    }


def _steps(job: Job) -> list[dict[str, Any]]:
    """Return the steps of a create, as far as its progress tells them."""
    progress = 100 if job.state == Job.State.DONE else job.progress
    if job.step == "place" and job.state != Job.State.DONE:
        progress = 0
    found, before = [], 0
    for name, title, weight in _CREATE_STEPS:
        percent = max(0.0, min(100.0, (progress - before) / weight * 100))
        state = "completed" if percent == 100 else "running"
        if percent == 0 and before:
            state = "pending"
        if state == "running" and job.state in (Job.State.FAILED, Job.State.CANCELLED):
            state = "failed"
        found.append(
            {
                "name": name,
                "display_name": title,
                "weight": weight,
                "parallel": False,
                "has_percentage": True,
                "state": state,
                "current_percentage": round(percent, 1),
                "value": 0,
                "total": 0,
                "eta": "",
                "message": job.message if state == "running" else "",
                "error": job.error if state == "failed" else "",
                "filename": "",
                "unit": "",
            }
        )
        before += weight
    return found


def _jobs(actor: Actor) -> QuerySet[Job]:
    return Job.objects.visible_to(actor).filter(dismissed_at=None).for_page()


class JobList(Endpoint):
    """GET: the newest jobs that the caller may see."""

    def get(self, request: HttpRequest) -> HttpResponse:
        newest = _jobs(self.actor).order_by("-pk")[:SHOWN]
        return answer(self.filtered(shown_jobs(self.actor, list(newest))))


class JobItem(Endpoint):
    """GET; DELETE takes an ended job off the list, and cancels nothing."""

    def job(self, reference: str) -> Job:
        """Return a job by its id, or by what its asker calls it. Raises `NotFound`."""
        pk = as_id(reference)
        mine = Q(external_id=reference, actor=self.actor.user) if self.actor.user else Q(pk=None)
        found = _jobs(self.actor).filter(Q(pk=pk) | mine).order_by("-pk").first()
        if found is None:
            raise NotFound(f"Job {reference} not found")
        return found

    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        return answer(shown_job(self.actor, self.job(id)))

    def delete(self, request: HttpRequest, id: str) -> HttpResponse:
        dismissing.dismiss(self.actor, self.job(id))
        return empty(204)


class JobCleanup(Endpoint):
    """DELETE: take the caller's own jobs that have ended off the list."""

    def delete(self, request: HttpRequest) -> HttpResponse:
        dismissing.dismiss_ended(self.actor)
        return empty(200)


urlpatterns = [
    route("jobs", JobList, "jobs"),
    route("jobs/cleanup", JobCleanup, "jobs-cleanup"),
    route("jobs/<str:id>", JobItem, "job"),
]
