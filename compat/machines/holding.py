"""Synchronous calls: their client is held until the job of the verb ends, and then told how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse

from compat.catalog.shown import manifest_out
from compat.machines import shown
from compat.wire.answers import answer, compact, empty
from compat.wire.endpoints import Endpoint
from jobs.models import Job
from orchestrator.refusals import Invalid, NotFound
from orchestrator.web import waiting
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor

SUCCESS = "Success"
_TIMED_OUT = 124  # the exit code by which shells say that a command did not end in time


def held(
    actor: Actor, job: Job, verb: str, vm: VirtualMachine, *, seconds: float = 0, **said: str
) -> HttpResponse:
    """Answer a verb when its job has ended, or after `seconds` (by default the setting) with 202.

    `said` are words of the request that its answer repeats.
    """
    if job.is_final:
        return _final(actor, job, verb, vm, said)
    response = _ANSWERS[verb](actor, vm, job, said)
    response.status_code = 202
    path = reverse("compat:ended", args=[verb, job.pk])
    if said:
        path += f"?{urlencode(said)}"
    limit = int(seconds or settings.COMPAT_CALL_SECONDS)
    waiting.hold(response, job.pk, path, 200, seconds=limit)
    return response


class Ended(Endpoint):
    """What a synchronous call answers once its job has ended. For the front, as the same caller."""

    def get(self, request: HttpRequest, verb: str, job: UUID) -> HttpResponse:
        found = Job.objects.filter(pk=job).first()
        if found is None or verb not in _ANSWERS:
            raise NotFound("There is no such job.")
        vms = VirtualMachine.objects.visible_to(self.actor).for_page()
        vm = vms.filter(pk=found.subject_id).first() if found.subject.startswith("vm:") else None
        own = Job.objects.visible_to(self.actor).filter(pk=job).exists()
        if vm is None or (verb in _OWN and not own):
            raise NotFound("There is no such job.")
        return _final(self.actor, found, verb, vm, request.GET.dict())


def _final(
    actor: Actor, job: Job, verb: str, vm: VirtualMachine, said: dict[str, str]
) -> HttpResponse:
    if verb == "delete" and vm.is_final:
        return empty()
    if job.state == Job.State.FAILED:
        if verb == "create" and vm.host_id is None:
            raise Invalid(f"No host available to create the virtual machine: {job.error}")
        raise Invalid(job.error)
    if job.state == Job.State.CANCELLED:
        raise Invalid(job.message or f"{verb} was cancelled.")
    return _ANSWERS[verb](actor, vm, job, said)


def operation(vm: VirtualMachine, verb: str) -> HttpResponse:
    """Return the answer to a verb that changes a VM's state."""
    return answer({"id": str(vm.pk), "operation": verb.capitalize(), "status": SUCCESS})


def _operation(verb: str) -> Callable[..., HttpResponse]:
    return lambda actor, vm, job, said: operation(vm, verb)


def _created(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    host = shown.host_facts(actor, vm.host)["host"] if vm.host else ""
    body = {
        "id": str(vm.pk),
        "host": host,
        "name": vm.name,
        "owner": vm.requested_by.username if vm.requested_by else "",
        "current_state": shown.state_of(vm),
    }
    return answer(compact(body))


def _pulled(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    placement = vm.placements.order_by("-pk").select_related("image__source").first()
    image = placement.image if placement else None
    body = {
        "id": str(image.pk) if image else "",
        "machine_id": str(vm.pk),
        "machine_name": vm.name,
        "manifest": manifest_out(actor, image) if image else None,
    }
    return answer(compact(body))


def _cloned(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    return answer({"id": str(vm.pk), "status": SUCCESS})


def _recorded(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    return answer(shown.record(actor, vm))


def _configured(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    done = [pair.partition(".") for pair in said.get("operations", "").split(",") if pair]
    return answer(
        {
            "operations": [
                {"group": group, "operation": name, "status": SUCCESS} for group, _, name in done
            ]
        }
    )


def _executed(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    result = job.result
    body: dict[str, Any] = {
        "stdout": result.get("stdout"),
        "stderr": result.get("stderr"),
        "exit_code": result.get("exit_code"),
    }
    if result.get("timed_out") or not job.is_final:
        body |= {"exit_code": _TIMED_OUT, "error": "The command did not end in time."}
    return answer(compact(body))


def _uploaded(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    return answer({"path": job.result.get("path", "")})


def _taken(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    body = {"snapshot_name": job.payload.get("name"), "snapshot_id": job.result.get("snapshot")}
    return answer(compact(body), 202)


def _reverted(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    return answer({"success": True, "data": {"id": str(vm.pk)}}, 202)


def _nothing(actor: Actor, vm: VirtualMachine, job: Job, said: dict[str, str]) -> HttpResponse:
    return empty()


_ANSWERS: dict[str, Callable[..., HttpResponse]] = {
    **{
        verb: _operation(verb)
        for verb in ("start", "stop", "restart", "suspend", "resume", "reset", "pause")
    },
    "create": _created,
    "pull": _pulled,
    "clone": _cloned,
    "rename": _recorded,
    "set": _configured,
    "execute": _executed,
    "upload": _uploaded,
    "delete": _nothing,
    "take-snapshot": _taken,
    "revert-snapshot": _reverted,
    "delete-snapshots": _nothing,
}
_OWN = ("execute", "upload")  # their answers tell what only who asked may know
