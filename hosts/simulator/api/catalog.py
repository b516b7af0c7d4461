"""Pushing VMs into a catalog's storage (contract 4.4, 8.35). API keys are refused."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from uuid import uuid4

from hosts.simulator import auth, catalogs, hub, render
from hosts.simulator.api.routing import route
from hosts.simulator.wire import Answer, Fields, RefusedError, Request
from hosts.simulator.world import Job

_KEPT = ("description", "tags", "required_roles", "required_claims", "minimum_requirements")


@route("GET", "catalog", "catalog_list")
async def catalog_list(request: Request) -> Answer:
    """List the manifests of the host's own catalog, which has none."""
    return Answer(200, [])


@route("POST", "catalog/push", "push", users_only=True)
async def push(request: Request) -> Answer:
    """Push and answer when it is done."""
    wish = _wish(request, await request.fields())
    job = _job(request, str(uuid4()), by_orchestrator=False)
    await asyncio.shield(request.host.world.spawn(_push(request, wish, job)))
    return Answer(200, {"catalog_id": wish.catalog_id, "version": wish.version})


@route("POST", "catalog/push/async", "push_async", users_only=True)
async def push_async(request: Request) -> Answer:
    """Push in a job, with the caller's id where it is an orchestrator's."""
    host = request.host
    wish = _wish(request, await request.fields())
    internal = (request.header(b"x-internal-api-client") or "").lower() == "true"
    wanted = request.header(b"x-orchestrator-job-id") if internal else None
    job = _job(request, wanted or str(uuid4()), by_orchestrator=wanted is not None)
    host.jobs[job.id] = job
    host.world.spawn(_quietly(_push(request, wish, job)))
    if job.by_orchestrator:
        return Answer(202, render.job_acknowledgement(job))
    return Answer(202, render.job_record(host, job, auth.owner_id(host)))


def _job(request: Request, job_id: str, *, by_orchestrator: bool) -> Job:
    now = request.host.now()
    job = Job(job_id, "push", created_at=now, updated_at=now, by_orchestrator=by_orchestrator)
    job.operation = "catalog/push"
    return job


def _wish(request: Request, fields: Fields) -> catalogs.Push:
    host = request.host
    path = fields.needed("local_path", "Local path").rstrip("/")
    found = [vm for vm in (*host.vms.values(), *host.bundles.values()) if vm.bundle == path]
    if not found:
        raise RefusedError(404, f"error 404: {path} not found")
    architecture = fields.needed("architecture", "Architecture")
    if architecture != host.arch:
        raise RefusedError(400, f"error 400: architecture {architecture} does not fit the host")
    return catalogs.Push(
        vm=found[0],
        catalog_id=fields.needed("catalog_id", "Catalog ID"),
        version=fields.needed("version", "Version"),
        connection=fields.needed("connection", "Connection"),
        compress=fields.flag("compress") or fields.flag("compress_pack"),
        values={name: value for name in _KEPT if (value := fields.get(name)) is not None},
    )


async def _push(request: Request, wish: catalogs.Push, job: Job) -> None:
    host = request.host
    catalogs.note_begin(job)
    try:
        await asyncio.to_thread(catalogs.push, host, wish, job)
        job.state = "completed"
        job.percent = 100
        job.result = f"{wish.catalog_id} {wish.version} pushed"
    except RefusedError as error:
        job.state, job.error = "failed", error.message
        raise
    finally:
        job.updated_at = host.now()
        hub.tell(host, "job_manager", "JOB_COMPLETED", render.job_record(host, job, ""))


async def _quietly(pushing: Any) -> None:
    """Run a push whose failure is told by its job alone."""
    with suppress(RefusedError):
        await pushing
