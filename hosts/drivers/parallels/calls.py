"""Every call of the contract that we make, each described once for both transports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from hosts.drivers.base import (
    Connection,
    CreateAnswer,
    CreateSpec,
    ErrorKind,
    ExecuteResult,
    Hardware,
    HostError,
    HostJob,
    Limits,
    RemoteVM,
    Snapshot,
    VMStatus,
)

from . import parsing
from .messages import Answer
from .scrub import connection_secrets

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """What to ask of a host. `does` completes the sentence "The host could not …"."""

    does: str
    method: str
    path: str
    limit_seconds: float
    parse: Callable[[Any, Answer], T]
    body: Any = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    changes_state: bool = False
    authenticated: bool = True
    introduces: bool = False
    """Part of getting to know the host: a foreign answer means that it is no DevOps API."""
    may_be_empty: bool = False
    or_get: bool = False
    """Hosts before 1.0.5 take this verb as GET only (contract 3.3)."""
    plain: bool = False
    """The answer is text, whatever its type; it is parsed as one string."""
    keep_bytes: int | None = None
    """Of a plain answer: keep so much of its end."""
    needs_user: bool = False
    """Hosts refuse API keys here and want a user's token (contract 2.6)."""


def join(*parts: str) -> str:
    """Return the path of these segments, each quoted; a dot segment would be another path."""
    if any(part in {"", ".", ".."} for part in parts):
        raise HostError(
            ErrorKind.NOT_FOUND, "There is nothing with such a name on a host; check the id."
        )
    return "".join(f"/{quote(part, safe='', errors='replace')}" for part in parts)


def probe(limits: Limits) -> Call[float]:
    return Call(
        "answer the health probe",
        "GET",
        "/health/probe",
        limits.probe_seconds,
        parsing.probe,
        authenticated=False,
        introduces=True,
    )


def log_in(connection: Connection, limits: Limits) -> Call[tuple[str, float]]:
    field_name = "email" if "@" in connection.username else "username"
    body = {field_name: connection.username, "password": connection.password}
    return _fetch_token(body, limits)


def exchange_key(api_key: str, limits: Limits) -> Call[tuple[str, float]]:
    return _fetch_token({"api_key": api_key}, limits)


def _fetch_token(body: Mapping[str, str], limits: Limits) -> Call[tuple[str, float]]:
    return Call(
        "log us in",
        "POST",
        "/v1/auth/token",
        limits.login_seconds,
        parsing.token,
        body=body,
        authenticated=False,
        introduces=True,
    )


def hardware(limits: Limits) -> Call[Hardware]:
    return Call(
        "show its hardware",
        "GET",
        "/v1/config/hardware",
        limits.read_seconds,
        parsing.hardware,
        introduces=True,
    )


def licence(limits: Limits) -> Call[str]:
    path = "/v1/config/parallels-desktop/license"
    return Call("show its licence", "GET", path, limits.read_seconds, parsing.licence)


def list_vms(limits: Limits) -> Call[tuple[RemoteVM, ...]]:
    return Call("list its VMs", "GET", "/machines", limits.list_seconds, parsing.vms)


def read_vm(vm_id: str, limits: Limits) -> Call[RemoteVM]:
    return Call("show the VM", "GET", join("machines", vm_id), limits.read_seconds, parsing.vm)


def status(vm_id: str, limits: Limits) -> Call[VMStatus]:
    path = join("machines", vm_id, "status")
    return Call("show the state of the VM", "GET", path, limits.read_seconds, parsing.status)


def read_job(job_id: str, limits: Limits) -> Call[HostJob]:
    path = join("v1", "jobs", job_id)
    return Call("show the job", "GET", path, limits.read_seconds, parsing.job, needs_user=True)


def create_async(spec: CreateSpec, job_id: str, limits: Limits) -> Call[CreateAnswer]:
    """Hand the create over; the host makes a job with our id (contract 3.7)."""
    return Call(
        "take the request for the VM",
        "POST",
        "/machines/async",
        limits.create_seconds,
        parsing.created_job,
        body=_create_body(spec),
        headers=(("X-INTERNAL-API-CLIENT", "true"), ("X-ORCHESTRATOR-JOB-ID", job_id)),
        secrets=connection_secrets(spec.connection),
        changes_state=True,
    )


def create_sync(spec: CreateSpec, limits: Limits) -> Call[CreateAnswer]:
    return Call(
        "create the VM",
        "POST",
        "/machines",
        limits.create_sync_seconds,
        partial(parsing.created_vm, name=spec.name),
        body=_create_body(spec),
        secrets=connection_secrets(spec.connection),
        changes_state=True,
    )


def _create_body(spec: CreateSpec) -> Mapping[str, Any]:
    manifest: dict[str, Any] = {
        "catalog_id": spec.catalog_id,
        "version": spec.version,
        "architecture": spec.architecture,
        "machine_name": spec.name,
        "start_after_pull": spec.start,
        "specs": {"type": spec.type, "cpu": str(spec.cpus), "memory": str(spec.memory_mib)},
    }
    if spec.catalog_manager_id:  # one or the other, never both
        manifest["catalog_manager_id"] = spec.catalog_manager_id
    else:
        manifest["connection"] = spec.connection
    owner = {"owner": spec.owner} if spec.owner else {}
    return {
        "name": spec.name,
        "architecture": spec.architecture,
        "start_on_create": spec.start,
        **owner,
        "catalog_manifest": {**manifest, **owner},
    }


def clone(source_id: str, name: str, limits: Limits) -> Call[str]:
    return Call(
        "clone the VM",
        "PUT",
        join("machines", source_id, "clone"),
        limits.clone_seconds,
        parsing.cloned,
        body={"clone_name": name},
        changes_state=True,
    )


def configure(
    vm_id: str, cpus: int, memory_mib: int, disk_gib: int | None, limits: Limits
) -> Call[None]:
    operations: list[dict[str, Any]] = [
        {"group": "cpu", "operation": "set", "value": str(cpus)},
        {"group": "memory", "operation": "set", "value": str(memory_mib)},
    ]
    if disk_gib is not None:
        # As `prlctl set VM --device-set hdd0 --size MiB`: the contract hands options over as flags.
        size = {"flag": "size", "value": str(disk_gib * 1024)}
        operations.append(
            {"group": "device", "operation": "set", "value": "hdd0", "options": [size]}
        )
    return Call(
        "change the size of the VM",
        "PUT",
        join("machines", vm_id, "set"),
        limits.state_seconds,
        parsing.configured,
        body={"operations": operations},
        changes_state=True,
    )


def rename(vm_id: str, name: str, limits: Limits) -> Call[None]:
    return Call(
        "rename the VM",
        "PUT",
        join("machines", vm_id, "rename"),
        limits.state_seconds,
        parsing.anything,
        body={"id": vm_id, "new_name": name},
        changes_state=True,
    )


def start(vm_id: str, limits: Limits) -> Call[None]:
    return _change("start", vm_id, limits)


def suspend(vm_id: str, limits: Limits) -> Call[None]:
    return _change("suspend", vm_id, limits)


def resume(vm_id: str, limits: Limits) -> Call[None]:
    return _change("resume", vm_id, limits)


def pause(vm_id: str, limits: Limits) -> Call[None]:
    return _change("pause", vm_id, limits)


def restart(vm_id: str, limits: Limits) -> Call[None]:
    return _change("restart", vm_id, limits)


def reset(vm_id: str, limits: Limits) -> Call[None]:
    return _change("reset", vm_id, limits)


def _change(verb: str, vm_id: str, limits: Limits) -> Call[None]:
    return Call(
        f"{verb} the VM",
        "PUT",
        join("machines", vm_id, verb),
        limits.state_seconds,
        parsing.done,
        changes_state=True,
        or_get=True,
    )


def stop(vm_id: str, force: bool, limits: Limits) -> Call[None]:
    return Call(
        "stop the VM",
        "PUT",
        join("machines", vm_id, "stop") + ("?force=true" if force else ""),
        limits.state_seconds,
        parsing.done,
        changes_state=True,
        or_get=True,
    )


def delete(vm_id: str, force: bool, limits: Limits) -> Call[None]:
    return Call(
        "delete the VM",
        "DELETE",
        join("machines", vm_id) + ("?force=true" if force else ""),
        limits.state_seconds,
        parsing.done,
        changes_state=True,
        may_be_empty=True,
    )


def execute(
    vm_id: str,
    command: str,
    environment: Mapping[str, str],
    timeout_seconds: float,
    limits: Limits,
    *,
    user: str = "",
    sudo: bool = False,
) -> Call[ExecuteResult]:
    body: dict[str, Any] = {"command": command, "environment_variables": dict(environment)}
    if user:
        body["user"] = user
    if sudo:
        body["use_sudo"] = True
    return Call(
        "run the command",
        "PUT",
        join("machines", vm_id, "execute"),
        timeout_seconds + limits.execute_margin_seconds,
        parsing.executed,
        body=body,
        secrets=tuple(environment.values()),
        changes_state=True,
    )


def upload(vm_id: str, path: str, remote_path: str, limits: Limits) -> Call[None]:
    return Call(
        "copy the file into the VM",
        "POST",
        join("machines", vm_id, "upload"),
        limits.upload_seconds,
        parsing.uploaded,
        body={"path": path, "remote_path": remote_path},
        changes_state=True,
    )


def snapshots(vm_id: str, limits: Limits) -> Call[tuple[Snapshot, ...]]:
    path = join("machines", vm_id, "snapshots")
    return Call("list the snapshots", "GET", path, limits.list_seconds, parsing.snapshots)


def take_snapshot(vm_id: str, name: str, description: str, limits: Limits) -> Call[str]:
    return Call(
        "take the snapshot",
        "POST",
        join("machines", vm_id, "snapshots"),
        limits.snapshot_seconds,
        parsing.taken_snapshot,
        body={"snapshot_name": name, "snapshot_description": description},
        changes_state=True,
    )


def revert_to_snapshot(vm_id: str, snapshot_id: str, limits: Limits) -> Call[None]:
    return Call(
        "revert to the snapshot",
        "POST",
        join("machines", vm_id, "snapshots", snapshot_id, "revert"),
        limits.snapshot_seconds,
        parsing.done,
        body={"skip_resume": False},
        changes_state=True,
        may_be_empty=True,
    )


def delete_snapshot(vm_id: str, snapshot_id: str, children: bool, limits: Limits) -> Call[None]:
    return Call(
        "delete the snapshot",
        "DELETE",
        join("machines", vm_id, "snapshots", snapshot_id),
        limits.snapshot_seconds,
        parsing.done,
        body={"delete_children": children},
        changes_state=True,
        may_be_empty=True,
    )


def delete_snapshots(vm_id: str, limits: Limits) -> Call[None]:
    return Call(
        "delete the snapshots",
        "DELETE",
        join("machines", vm_id, "snapshots"),
        limits.snapshot_seconds,
        parsing.done,
        changes_state=True,
        may_be_empty=True,
    )
