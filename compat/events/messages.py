"""Our events in the words of the contract. Only what the watcher may see becomes a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from django.utils import timezone

from compat.jobs import shown_jobs
from compat.machines import shown
from compat.machines.snapshots import shown_snapshot
from compat.wire.answers import rfc3339
from hosts.models import Health, Host
from jobs.models import Job
from vms.models import Placement, VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from accounts.actors import Actor
    from events.models import Event

    Told = tuple[Event, dict[str, Any]]

TYPES = (
    *("global", "pdfm", "system", "system_logs", "health", "orchestrator", "stats"),
    *("reverse_proxy", "catalog_cache", "job_manager", "auth"),
)
MOST_STATES = 5000  # of VMs, that one connection remembers
_JOB_MESSAGES: dict[str, str] = {
    Job.State.DONE: "JOB_COMPLETED",
    Job.State.FAILED: "JOB_FAILED",
    Job.State.CANCELLED: "JOB_FAILED",
}
_SOCKET_MESSAGES = {"live": "HOST_WEBSOCKET_CONNECTED", "lost": "HOST_WEBSOCKET_DISCONNECTED"}
_CACHE_MESSAGES = {
    "host.image_cached": "CACHE_ITEM_ADDED",
    "host.image_uncached": "CACHE_ITEM_REMOVED",
}
_SNAPSHOT_JOBS = ("vm.take_snapshot", "vm.revert_snapshot", "vm.delete_snapshots")
_AUTH_MESSAGES = {
    "user.created": "USER_ADDED",
    "user.deleted": "USER_REMOVED",
    "role.created": "ROLE_ADDED",
    "role.deleted": "ROLE_REMOVED",
}


def message(
    event_type: str, name: str, body: Any = None, *, client_id: str = "", ref_id: str = ""
) -> dict[str, Any]:
    """Return an EventMessage. The name of what happened is its `message`."""
    made: dict[str, Any] = {
        "id": str(uuid4()),
        "event_type": event_type,
        "timestamp": rfc3339(timezone.now()),
        "message": name,
    }
    if ref_id:
        made["ref_id"] = ref_id
    if body is not None:
        made["body"] = body
    if client_id:
        made["client_id"] = client_id
    return made


class Translator:
    """Turns events into messages for one connection; remembers in which state it saw each VM."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}

    def translate(
        self, actor: Actor, events: Iterable[Event], types: frozenset[str]
    ) -> list[dict[str, Any]]:
        """Return the messages of `types` about what `actor` may see now. Asks the database."""
        who, audience = actor.user_id, actor.audience
        seen = [event for event in events if who and event.may_be_seen(who, audience)]
        made: list[Told] = []
        if types & {"pdfm", "orchestrator"}:
            made += self._machines(actor, [e for e in seen if e.kind == "vm.changed"], types)
            made += _snapshots(actor, [e for e in seen if e.kind == "job.changed"], types)
        if "orchestrator" in types:
            made += _hosts([e for e in seen if e.subject.startswith("host:")])
        if "catalog_cache" in types or "orchestrator" in types:
            made += _caches([e for e in seen if e.kind in _CACHE_MESSAGES], types)
        if "job_manager" in types:
            made += _jobs(actor, [e for e in seen if e.kind == "job.changed"])
        if "auth" in types:
            made += _accounts(seen)
        made.sort(key=lambda pair: pair[0].sequence or 0)
        return [told for _, told in made]

    def _machines(self, actor: Actor, events: list[Event], types: frozenset[str]) -> Iterator[Told]:
        rows = VirtualMachine.objects.visible_to(actor).filter(pk__in=_ids(events))
        hosts = {str(pk): host_id for pk, host_id in rows.values_list("pk", "host_id")}
        moved: dict[UUID, Event] = {}
        for event in events:
            vm_id = event.subject.partition(":")[2]
            if vm_id not in hosts:
                continue
            told = self._machine(vm_id, str(event.data.get("state", "")))
            if told is None:
                continue
            name, body = told
            host_id = hosts[vm_id]
            if name in ("VM_ADDED", "VM_UPDATED"):
                body["new_vm"] = {"ID": vm_id, "Name": event.data.get("name", "")}
            elif host_id:
                moved[host_id] = event
            yield from _of_machine(event, name, body, host_id, types)
        if moved:
            yield from _mac_vms(actor, moved, types)

    def _machine(self, vm_id: str, state: str) -> tuple[str, dict[str, Any]] | None:
        """Return what a VM's change is to those who watch; None for what has no state there."""
        if state in State.final():
            self._states.pop(vm_id, None)
            return "VM_REMOVED", {"vm_id": vm_id}
        current = shown.STATES.get(State(state)) if state in State.values else None
        before = self._states.get(vm_id)
        if current is None:
            return None
        if current == before:
            return "VM_UPDATED", {"vm_id": vm_id}
        if len(self._states) >= MOST_STATES:
            self._states.pop(next(iter(self._states)))
        self._states[vm_id] = current
        if before is None and state == State.PENDING:
            return "VM_ADDED", {"vm_id": vm_id}
        change = {"previous_state": before or "", "current_state": current}
        return "VM_STATE_CHANGED", {"vm_id": vm_id, **change}


def _of_machine(
    event: Event, name: str, body: dict[str, Any], host_id: UUID | None, types: frozenset[str]
) -> Iterator[Told]:
    """Yield what a host would tell, and what its orchestrator makes of that."""
    if "pdfm" in types:
        yield event, message("pdfm", name, body)
    if "orchestrator" in types and host_id:
        about = {"host_id": str(host_id), "event": body}
        yield event, message("orchestrator", f"HOST_{name}", about)


def _mac_vms(actor: Actor, moved: dict[UUID, Event], types: frozenset[str]) -> Iterator[Told]:
    """Yield which macOS VMs run on the hosts where a VM came, went or changed its state."""
    places = Placement.objects.filter(current=True, host__in=moved, macos_slots__gt=0)
    macs = VirtualMachine.objects.visible_to(actor).filter(placements__in=places).order_by("pk")
    running: dict[UUID, list[str]] = {}
    for vm in macs:
        if vm.host_id:
            found = running.setdefault(vm.host_id, [])
            found += [str(vm.pk)] if vm.state == State.RUNNING else []
    for host_id, ids in running.items():
        body = {"mac_vms_running": ids}
        yield from _of_machine(moved[host_id], "MAC_VMS_RUNNING_NOW", body, host_id, types)


def _snapshots(actor: Actor, events: list[Event], types: frozenset[str]) -> Iterator[Told]:
    """Yield the snapshots of VMs that a job has changed, as they are by now."""
    done = {
        UUID(event.data["subject"].partition(":")[2]): event
        for event in events
        if event.data.get("kind") in _SNAPSHOT_JOBS and event.data.get("state") == Job.State.DONE
    }
    if not done:
        return
    rows = VirtualMachine.objects.visible_to(actor).filter(pk__in=done)
    for vm in rows.prefetch_related("snapshots__parent"):
        listed = sorted(vm.snapshots.all(), key=lambda row: row.pk)
        body = {"vm_id": str(vm.pk), "snapshots": [shown_snapshot(row) for row in listed]}
        yield from _of_machine(done[vm.pk], "VM_SNAPSHOTS_UPDATED", body, vm.host_id, types)


def _hosts(events: list[Event]) -> Iterator[Told]:
    rows = Host.objects.filter(pk__in=_ids(events)).values_list("pk", "url")
    urls = {str(pk): url for pk, url in rows}
    for event in events:
        host_id = event.subject.partition(":")[2]
        body: dict[str, Any] = {"host_id": host_id}
        match event.kind:
            case "host.enrolled":
                body |= {"host": urls.get(host_id, ""), "description": event.data.get("name", "")}
                yield event, message("orchestrator", "HOST_ADDED", body)
            case "host.removed":
                yield event, message("orchestrator", "HOST_REMOVED", body)
            case "host.health":
                healthy = event.data.get("health") == Health.HEALTHY
                body["state"] = "healthy" if healthy else "unhealthy"
                yield event, message("orchestrator", "HOST_HEALTH_UPDATE", body)
            case "host.changed" if event.data.get("events") in _SOCKET_MESSAGES:
                name = _SOCKET_MESSAGES[event.data["events"]]
                yield event, message("orchestrator", name, body)
            case "host.reverse_proxy_changed":
                yield event, message("orchestrator", "HOST_REVERSE_PROXY_UPDATED", body)


def _caches(events: list[Event], types: frozenset[str]) -> Iterator[Told]:
    for event in events:
        data, name = event.data, _CACHE_MESSAGES[event.kind]
        item = {
            "catalog_id": data.get("catalog_id", ""),
            "version": data.get("version", ""),
            "architecture": data.get("architecture", ""),
            "cache_size": data.get("size_mib", 0),
            "cache_type": data.get("type", ""),
            "cached_date": data.get("cached_at") or "",
        }
        host_id = event.subject.partition(":")[2]
        if "catalog_cache" in types:
            yield event, message("catalog_cache", name, {"host_id": host_id, **item})
        if "orchestrator" in types:
            about = {"host_id": host_id, "event": {"message": name, **item}}
            yield event, message("orchestrator", "HOST_CATALOG_CACHE_EVENT", about)


def _jobs(actor: Actor, events: list[Event]) -> Iterator[Told]:
    """Yield a message for each change, with the job as it is by now."""
    rows = list(Job.objects.visible_to(actor).for_page().filter(pk__in=_ids(events)))
    shown_rows = shown_jobs(actor, rows)
    records = {str(row.pk): record for row, record in zip(rows, shown_rows, strict=True)}
    for event in events:
        record = records.get(event.subject.partition(":")[2])
        if record is None:
            continue
        state = str(event.data.get("state", ""))
        begun = "JOB_CREATED" if event.data.get("created") else "JOB_UPDATED"
        name = _JOB_MESSAGES.get(state, begun)
        yield event, message("job_manager", name, record)


def _accounts(events: list[Event]) -> Iterator[Told]:
    for event in events:
        noun, _, subject_id = event.subject.partition(":")
        if noun == "user":
            name = _AUTH_MESSAGES.get(event.kind, "USER_UPDATED")
            yield event, message("auth", name, {"user_id": subject_id})
        elif noun == "role" and event.kind in _AUTH_MESSAGES:
            yield event, message("auth", _AUTH_MESSAGES[event.kind], {"role_id": subject_id})


def _ids(events: list[Event]) -> set[UUID]:
    return {UUID(event.subject.partition(":")[2]) for event in events}
