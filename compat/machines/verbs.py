"""Verbs on machines."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, ClassVar

from django.conf import settings

from compat.machines import finding, holding
from compat.machines.creating import created
from compat.machines.holding import held
from compat.wire.endpoints import Endpoint
from jobs.models import Job
from orchestrator.refusals import Conflict, Invalid, NotFound
from vms import requests, verbs
from vms.models import Template
from vms.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor
    from vms.models import VirtualMachine

# Where a verb leads, and the states on the way there: asked for again, it is done already.
_REACHED = {
    "start": State.RUNNING,
    "resume": State.RUNNING,
    "stop": State.STOPPED,
    "suspend": State.SUSPENDED,
    "pause": State.PAUSED,
}
_ON_THE_WAY = {
    "start": (State.STARTING, State.RESUMING),
    "resume": (State.STARTING, State.RESUMING),
    "stop": (State.STOPPING,),
    "suspend": (State.SUSPENDING,),
    "pause": (State.PAUSING,),
}
_VERBS: dict[str, Callable[[Actor, VirtualMachine], Job]] = {
    "start": verbs.start,
    "resume": verbs.resume,
    "suspend": verbs.suspend,
    "pause": verbs.pause,
    "restart": verbs.restart,
    "reset": verbs.reset,
}
STATE_VERBS = (*_VERBS, "stop")


def change_state(actor: Actor, vm: VirtualMachine, verb: str, *, force: bool = False) -> Job | None:
    """Do a verb that changes the state; None when there is nothing to wait for.

    Tools send `start` each second until the VM runs, and `stop` before a delete: what is so
    already, or under way, is no conflict. Raises as the verb does.
    """
    try:
        if verb == "stop":
            return verbs.stop(actor, vm, force=force)
        if verb == "start" and vm.state == State.PAUSED:
            return verbs.resume(actor, vm)
        return _VERBS[verb](actor, vm)
    except Conflict:
        vm.refresh_from_db()
        if vm.state == _REACHED.get(verb):
            return None
        if verb == "start" and vm.state in State.queued() and vm.start:
            return None
        if vm.state not in _ON_THE_WAY.get(verb, ()):
            raise
        if verb == "start":
            return None  # asked for again each second: the caller looks by itself
        return Job.objects.open().about(vm.subject).filter(kind=f"vm.{verb}").first()


class MachineVerb(Endpoint):
    """PUT, and GET as hosts before 1.0.5 had it. Bodies are not read: tools send junk."""

    verb: ClassVar[str] = ""

    def put(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        force = request.GET.get("force", "").lower() == "true"
        job = change_state(self.actor, vm, self.verb, force=force)
        if job is None:
            return holding.operation(vm, self.verb)
        return held(self.actor, job, self.verb, vm)

    get = put


class Clone(Endpoint):
    """PUT: a clone of a stopped machine, or of the base that a template is cloned from."""

    def put(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        name = self.body.text("clone_name", needed=True)
        return created(
            self.actor,
            clone_of(self.actor, id, name, host),
            "clone",
            settings.COMPAT_CREATE_SECONDS,
        )


def clone_of(actor: Actor, reference: str, name: str, host: str = "") -> VirtualMachine:
    """Ask for a clone, which is not started. Raises as `vms.verbs.clone`."""
    try:
        vm = finding.machine(actor, reference, host)
    except NotFound:
        template = _template_cloned_from(actor, reference)
        if template is None:
            raise
        where = finding.host_named(actor, host) if host else None
        return requests.request_vm(actor, template=template, name=name, host=where, start=False)
    return verbs.clone(actor, vm, name=name, start=False)


def _template_cloned_from(actor: Actor, reference: str) -> Template | None:
    base = finding.base_machine(actor, reference)
    rows = Template.objects.visible_to(actor).live().exclude(clone_of="")
    by_base = rows.filter(clone_of__iexact=base.name if base else reference)
    return by_base.first() or rows.filter(name__iexact=reference).first()


class Rename(Endpoint):
    """PUT: another name. There is no description to change."""

    def put(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        job = verbs.rename(self.actor, vm, name=self.body.text("new_name", needed=True))
        return held(self.actor, job, "rename", vm)


class Execute(Endpoint):
    """PUT: a command in the guest; a script of the host's disk, if given, runs before it."""

    def put(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        given = self.body.get("environment_variables") or {}
        if not isinstance(given, dict):
            raise Invalid("Invalid request body: environment_variables must be an object.")
        seconds = settings.VM_MAXIMUM_EXECUTE_SECONDS
        job = verbs.execute(
            self.actor,
            vm,
            command=self.body.text("command", needed=True),
            host_script=self.host_script(),
            user=self.body.text("user"),
            sudo=self.body.flag("use_sudo"),
            environment={str(key): str(value) for key, value in given.items()},
            timeout_seconds=seconds,
        )
        return held(self.actor, job, "execute", vm, seconds=seconds + 60)

    def host_script(self) -> verbs.HostScript | None:
        """Return the script of the host's disk that is to be copied and run, if any."""
        if not self.body.has("script"):
            return None
        script = self.body.inner("script")
        path = script.text("path", needed=True)
        given = script.get("parameters") or []
        try:
            parameters = shlex.split(given) if isinstance(given, str) else given
        except ValueError:
            raise Invalid("Invalid request body: a quote in parameters has no end.") from None
        if not isinstance(parameters, list) or not all(isinstance(one, str) for one in parameters):
            raise Invalid("Invalid request body: parameters must be a list of strings.")
        return verbs.HostScript(path, script.text("remote_path") or path, parameters)


class Upload(Endpoint):
    """POST: a file from the disk of the machine's host into its guest."""

    def post(self, request: HttpRequest, id: str, host: str = "") -> HttpResponse:
        vm = finding.machine(self.actor, id, host)
        path = self.body.text("path", needed=True)
        remote_path = self.body.text("remote_path") or path
        job = verbs.upload(self.actor, vm, path=path, remote_path=remote_path)
        return held(self.actor, job, "upload", vm)
