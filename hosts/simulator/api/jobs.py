"""The jobs of a host (contract 2.6). Callers with an API key are refused: they are no user."""

from __future__ import annotations

from typing import Any

from hosts.simulator import auth, render
from hosts.simulator.api.routing import route
from hosts.simulator.wire import Answer, RefusedError, Request
from hosts.simulator.world import Job

_FINAL = ("completed", "failed")


@route("GET", "jobs", "job_list", users_only=True)
async def job_list(request: Request) -> Answer:
    """List all jobs that the host still knows."""
    return Answer(200, [_record(request, job) for job in request.host.jobs.values()])


@route("GET", "jobs/*", "job_read", users_only=True)
async def job_read(request: Request) -> Answer:
    """Return one job."""
    return Answer(200, _record(request, _job(request)))


@route("DELETE", "jobs/cleanup", "job_cleanup", users_only=True)
async def job_cleanup(request: Request) -> Answer:
    """Forget the jobs that have ended."""
    jobs = request.host.jobs
    for job in [job for job in jobs.values() if job.state in _FINAL]:
        del jobs[job.id]
    return Answer(200)


@route("DELETE", "jobs/*", "job_delete", users_only=True)
async def job_delete(request: Request) -> Answer:
    """Forget one job; its work goes on."""
    del request.host.jobs[_job(request).id]
    return Answer(204)


def _job(request: Request) -> Job:
    job = request.host.jobs.get(request.args[0])
    if job is None:
        raise RefusedError(404, f"error 404: job {request.args[0]} not found")
    return job


def _record(request: Request, job: Job) -> dict[str, Any]:
    return render.job_record(request.host, job, auth.owner_id(request.host))
