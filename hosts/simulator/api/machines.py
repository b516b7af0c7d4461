"""The VMs of a host (contract 2.3, 3.5, 8.15 to 8.26)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from hosts.simulator import auth, bundles, configuring, guest, render
from hosts.simulator import machines as work
from hosts.simulator.api.routing import MODERN_METHOD, Handler, route
from hosts.simulator.wire import Answer, DropError, Fields, RefusedError, Request
from hosts.simulator.world import APPLE_VM, VM, Job

LATE_CALLER_SECONDS = 35.0
"""How long a caller hit by ``latecreate`` is kept waiting before the connection ends."""

DEFAULT_USER = "parallels"
_DONE = "Success"


def machine(request: Request) -> VM:
    """Return the VM named in the path by id or name; raises ``RefusedError`` 404."""
    wanted = request.args[0]
    vm = request.host.find(wanted)
    if vm is None:
        raise RefusedError(404, f"error 404: Virtual machine {wanted} not found")
    return vm


# -- read ------------------------------------------------------------------------------------


@route("GET", "machines", "list")
async def machine_list(request: Request) -> Answer:
    """List the VMs, those that pass ``X-Filter`` when it is sent."""
    host = request.host
    records = [render.vm_record(host, vm) for vm in host.vms.values()]
    if wanted := request.header(b"x-filter"):
        passes = _filter(wanted)
        records = [record for record in records if passes(record)]
    return Answer(200, records)


@route("GET", "machines/*", "read")
async def machine_read(request: Request) -> Answer:
    """Return one VM; an unknown one is 404 at once, not after the original's retries."""
    return Answer(200, render.vm_record(request.host, machine(request)))


@route("GET", "machines/*/status", "status")
async def machine_status(request: Request) -> Answer:
    """Return state and address, which is ``-`` while there is none."""
    vm = machine(request)
    return Answer(200, {"id": vm.id, "status": vm.state, "ip_configured": vm.ip or "-"})


def _filter(text: str) -> Callable[[dict[str, Any]], bool]:
    """Return the test that an ``X-Filter: Prop=regex[,i]`` stands for (contract 2.0)."""
    name, equals, pattern = text.partition("=")
    if not equals or "=" in pattern:
        raise RefusedError(400, "error 400: invalid filter")
    flags = re.IGNORECASE if pattern.endswith(",i") else 0
    try:
        regex = re.compile(pattern.removesuffix(",i"), flags)
    except re.error:
        raise RefusedError(400, "error 400: invalid filter") from None
    parts = [part.strip().lower() for part in name.split(".")]

    def passes(record: dict[str, Any]) -> bool:
        value: Any = record
        for part in parts:
            if not isinstance(value, dict):
                return False
            value = next((item for key, item in value.items() if key.lower() == part), None)
        return value is not None and regex.search(str(value)) is not None

    return passes


# -- create and clone ------------------------------------------------------------------------


@route("POST", "machines", "create")
async def create(request: Request) -> Answer:
    """Create a VM and answer when it is there, however long that takes."""
    blueprint = _blueprint(request, await request.fields())
    vm = await _blocking_create(request, blueprint)
    body = {
        "id": vm.id,
        "name": blueprint.name,
        "owner": vm.user,
        "current_state": vm.state,
    }
    return Answer(200, body)


@route("POST", "machines/async", "create_async")
async def create_async(request: Request) -> Answer:
    """Create a VM in a job. A job id that was used before is taken again, without a question."""
    host = request.host
    fields = await request.fields()
    if fields.inner("catalog_manifest") is None:
        raise RefusedError(400, "error 400: only catalog_manifest can be created asynchronously")
    blueprint = _blueprint(request, fields)
    internal = (request.header(b"x-internal-api-client") or "").lower() == "true"
    wanted = request.header(b"x-orchestrator-job-id") if internal else None
    job = _job(request, wanted or str(uuid4()), by_orchestrator=wanted is not None)
    if host.strikes("latecreate"):
        await _create_late(request, blueprint, job)
    if not host.has("losejob"):
        host.jobs[job.id] = job
        seconds = work.pull_seconds(host, blueprint)
        host.world.spawn(_quietly(work.create(host, blueprint, job, seconds=seconds)))
    if job.by_orchestrator:
        return Answer(202, render.job_acknowledgement(job))
    return Answer(202, render.job_record(host, job, auth.owner_id(host)))


@route("PUT", "machines/*/clone", "clone")
async def clone(request: Request) -> Answer:
    """Clone a VM and answer when the clone is there."""
    source = machine(request)
    name = (await request.fields()).needed("clone_name", "Clone name")
    vm = await _blocking_create(request, work.Blueprint(name, source.user, source=source))
    return Answer(200, {"id": vm.id, "status": _DONE})


async def _blocking_create(request: Request, blueprint: work.Blueprint) -> VM:
    host = request.host
    job = _job(request, str(uuid4()), by_orchestrator=False)
    if host.strikes("latecreate"):
        await _create_late(request, blueprint, job)
    seconds = work.pull_seconds(host, blueprint)
    task = host.world.spawn(work.create(host, blueprint, job, seconds=seconds))
    vm: VM = await asyncio.shield(task)
    return vm


async def _create_late(request: Request, blueprint: work.Blueprint, job: Job) -> None:
    """Let the caller time out while the VM comes into being later; always raises ``DropError``.

    The host knows the job only once the VM is there: until then nobody can tell that it will come.
    """
    host = request.host

    async def later() -> None:
        await _quietly(work.create(host, blueprint, job, seconds=host.late_seconds))
        host.jobs[job.id] = job

    host.world.spawn(later())
    with suppress(TimeoutError):
        await asyncio.wait_for(request.gone(), LATE_CALLER_SECONDS)
    raise DropError


async def _quietly(creating: Any) -> None:
    """Run a create whose failure is told by its job alone."""
    with suppress(RefusedError):
        await creating


def _job(request: Request, job_id: str, *, by_orchestrator: bool) -> Job:
    now = request.host.now()
    return Job(job_id, "create", created_at=now, updated_at=now, by_orchestrator=by_orchestrator)


def _blueprint(request: Request, fields: Fields) -> work.Blueprint:
    """Return the VM that a CreateVirtualMachineRequest asks for; raises ``RefusedError`` 400."""
    host = request.host
    name = fields.needed("name", "Name")
    sources = [fields.inner(key) for key in ("catalog_manifest", "packer_template", "vagrant_box")]
    if sum(source is not None for source in sources) != 1:
        raise RefusedError(400, "Invalid request body: exactly one source is needed")
    manifest = sources[0]
    if manifest is None:
        raise RefusedError(400, "error 400: this source is not enabled on the host")
    catalog_id = manifest.needed("catalog_id", "Catalog ID")
    if manifest.text("connection") and manifest.text("catalog_manager_id"):
        raise RefusedError(400, "Invalid request body: connection and catalog_manager_id given")
    for architecture in (fields.text("architecture"), manifest.text("architecture")):
        if architecture and _ARCHITECTURES.get(architecture, architecture) != host.arch:
            raise RefusedError(400, f"error 400: architecture {architecture} does not fit the host")
    specs = manifest.inner("specs") or Fields({})
    is_apple = (specs.text("type") or _type_of(catalog_id, host.arch)) == "macvm"
    return work.Blueprint(
        name=name,
        user=fields.text("owner") or manifest.text("owner") or DEFAULT_USER,
        starts=fields.flag("start_on_create"),
        cpus=_number(specs.text("cpu"), 2, "cpu"),
        memory_mib=_number(specs.text("memory"), 2048, "memory"),
        type=APPLE_VM if is_apple else "VM",
        os=_os_of(catalog_id, is_apple=is_apple),
        catalog_id=catalog_id.upper(),
        version=manifest.text("version") or "latest",
        connection=manifest.text("connection"),
    )


_ARCHITECTURES = {"aarch64": "arm64", "amd64": "x86_64"}


def _type_of(catalog_id: str, arch: str) -> str:
    return "macvm" if catalog_id.lower().startswith("macos") and arch == "arm64" else "pvm"


def _os_of(catalog_id: str, *, is_apple: bool) -> str:
    name = catalog_id.lower()
    if is_apple or name.startswith("macos"):
        return "macosx"
    return "win-11" if name.startswith("win") else "ubuntu"


def _number(text: str, default: int, name: str) -> int:
    if text and not (text.isdigit() and int(text) > 0):
        raise RefusedError(400, f"Invalid request body: {name} must be a number above 0")
    return int(text or default)


# -- change ----------------------------------------------------------------------------------


def _state_handler(verb: str) -> Handler:
    async def handle(request: Request) -> Answer:
        host, vm = request.host, machine(request)
        if verb == "stop":
            changing = work.stop(host, vm, force=request.query.get("force", "").lower() == "true")
        else:
            changing = work.STATE_VERBS[verb](host, vm)
        await asyncio.shield(host.world.spawn(changing))
        return Answer(200, {"id": vm.id, "operation": verb.capitalize(), "status": _DONE})

    handle.__doc__ = f"Do “{verb}” and answer when it is done."
    return handle


for _verb in ("stop", *work.STATE_VERBS):
    for _method in (MODERN_METHOD, "GET"):
        route(_method, f"machines/*/{_verb}", _verb, state_verb=True)(_state_handler(_verb))


@route("DELETE", "machines/*", "delete")
async def delete(request: Request) -> Answer:
    """Remove a VM; a running one only with ``?force=true``."""
    force = request.query.get("force", "").lower() == "true"
    bundles.remove(request.host, machine(request), force=force)
    return Answer(202)


@route("PUT", "machines/*/rename", "rename")
async def rename(request: Request) -> Answer:
    """Give a VM another name and description."""
    vm = machine(request)
    fields = await request.fields()
    work.rename(request.host, vm, fields.needed("new_name", "New name"))
    vm.description = fields.text("description") or vm.description
    return Answer(200, render.vm_record(request.host, vm))


@route("PUT", "machines/*/set", "set")
async def configure(request: Request) -> Answer:
    """Apply operations in order; a failing one is 400 for all, the earlier ones stay applied."""
    vm = machine(request)
    done = []
    for operation in (await request.fields()).rows("operations"):
        group = operation.needed("group", "Group")
        name = operation.needed("operation", "Operation")
        await _apply(request, vm, group, name, operation)
        done.append({"group": group, "operation": name, "status": _DONE})
    return Answer(200, {"operations": done})


async def _apply(request: Request, vm: VM, group: str, name: str, operation: Fields) -> None:
    """Apply one operation; raises ``RefusedError`` 400 for one that no host knows."""
    host, value = request.host, operation.text("value")
    match group, name:
        case "cpu", "set":
            work.resize(host, vm, cpus=_number(value or "0", 0, "cpu"))
        case "memory", "set":
            work.resize(host, vm, memory_mib=_number(value or "0", 0, "memory"))
        case "device", "set" if value == "hdd0":
            options = {row.text("flag"): row.text("value") for row in operation.rows("options")}
            work.resize(host, vm, disk_mib=_number(options.get("size") or "0", 0, "size"))
        case "state", "stop":
            await work.stop(host, vm)
        case "state", verb if verb in work.STATE_VERBS:
            await work.STATE_VERBS[verb](host, vm)
        case "machine", "rename":
            if not value:
                raise RefusedError(400, "Invalid request body: value cannot be empty")
            work.rename(host, vm, value)
        case "machine", "clone":
            await _blocking_create(request, work.Blueprint(value, vm.user, source=vm))
        case _:
            wanted = configuring.read(group, name, operation)
            if (group, name) == ("cmd", "set"):
                cpus, memory = (wanted.options.pop(flag, None) for flag in ("cpus", "memsize"))
                if cpus is not None:
                    work.resize(host, vm, cpus=_number(cpus or "0", 0, "cpus"))
                if memory is not None:
                    work.resize(host, vm, memory_mib=_number(memory or "0", 0, "memsize"))
            configuring.apply(vm, wanted)
            work.tell_changed(host, vm)


@route("POST", "machines/*/upload", "upload")
async def upload(request: Request) -> Answer:
    """Copy a file of the host into a running guest: a known one (``files`` of control) is there."""
    vm = machine(request)
    fields = await request.fields()
    path = fields.needed("path", "Path")
    if vm.state != "running":
        raise RefusedError(400, f"error 400: machine {vm.name} is {vm.state}, not running")
    if not path.startswith("/"):
        raise RefusedError(400, f"error 400: the file {path} does not exist on the host")
    remote_path = fields.text("remote_path") or path
    if path in request.host.files:
        vm.disk.files[remote_path] = request.host.files[path].encode()
    return Answer(200, {"path": remote_path})


@route("PUT", "machines/*/execute", "execute")
async def execute(request: Request) -> Answer:
    """Run a command in a running guest; a code other than 0 is still an answer of 200."""
    vm = machine(request)
    fields = await request.fields()
    command = fields.needed("command", "Command")
    given = fields.inner("environment_variables") or Fields({})
    if vm.state != "running":
        raise RefusedError(400, f"error 400: machine {vm.name} is {vm.state}, not running")
    user = fields.text("user") or guest.TOOLS_USER
    known = {"HOSTNAME": vm.name, "USER": user}
    if fields.flag("use_sudo"):
        known |= {"USER": "root", "SUDO_USER": user}
    environment = known | {key: str(value) for key, value in given.data.items()}
    outcome = await guest.execute(command, environment, vm.disk)
    return Answer(200, outcome.record())
