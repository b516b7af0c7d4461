"""VMs and their verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters
from django.db.models import Prefetch, QuerySet
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter
from rest_framework.response import Response

from hosts.models import Host
from jobs.api import DeletesByVerb, VerbView
from orchestrator.api.references import as_id, lookup, resolve
from orchestrator.api.views import ApiView, Lists, Posts, Shows
from orchestrator.refusals import NotFound
from orchestrator.web import waiting
from vms import ending, leases, requests, verbs
from vms.api import serializers
from vms.api.configuration import ConfigureInput, wish_of
from vms.api.templates import template_named
from vms.models import Placement, VirtualMachine
from vms.placement.placer import why_not_host
from vms.states import State

if TYPE_CHECKING:
    from rest_framework.request import Request

    from jobs.models import Job


class VMFilter(django_filters.FilterSet):
    name = django_filters.CharFilter(lookup_expr="iexact")
    state = django_filters.MultipleChoiceFilter(choices=State.choices)
    open = django_filters.BooleanFilter(method="by_open", help_text="Not ended, or ended.")
    template = django_filters.CharFilter(method="by_reference", help_text="Id or name.")
    host = django_filters.CharFilter(method="by_reference", help_text="Id or name.")

    class Meta:
        model = VirtualMachine
        fields = ["name", "state", "open", "template", "host"]

    def by_open(self, rows: Any, name: str, value: bool) -> Any:
        ended = {"state__in": State.final()}
        return rows.exclude(**ended) if value else rows.filter(**ended)

    def by_reference(self, rows: Any, name: str, value: str) -> Any:
        pk = as_id(value)
        return rows.filter(**({name: pk} if pk else {f"{name}__name__iexact": value}))


class VMView(ApiView):
    tag = "vms"
    model = VirtualMachine
    output: Any = serializers.VMOutput

    def rows(self) -> QuerySet[VirtualMachine]:
        current = Placement.objects.filter(current=True).only("vm_id", "host_name")
        return (
            VirtualMachine.objects.visible_to(self.actor)
            .for_page()
            .defer("host__password", "host__api_key")
            .prefetch_related(
                Prefetch("placements", current, to_attr="current_placements"),
                Prefetch("placements", Placement.objects.ended(), to_attr="ended_placements"),
            )
        )

    def acted_on(self) -> QuerySet[VirtualMachine]:
        """Return `rows()` for a verb: its answer shows the job, so little of the VM is read."""
        return VirtualMachine.objects.visible_to(self.actor).select_related("template", "host")


class VMList(VMView, Lists, Posts):
    """A create's job ends when the VM runs and has an IP; held until then, the answer is 201."""

    input = serializers.VMInput
    filterset_class = VMFilter
    status = 202
    may_wait: ClassVar[bool] = True
    held_statuses: ClassVar[tuple[str, ...]] = ("201",)
    permission = "vms.use"
    docs = {
        "GET": "List the VMs that you may see, newest first.",
        "POST": "Ask for a VM. A full pool is no error: the VM is `pending`, with the reason.",
    }

    def perform(self, data: dict[str, Any]) -> VirtualMachine:
        data["template"] = template_named(self.actor, data["template"])
        if "host" in data:
            data["host"] = lookup(Host.objects.visible_to(self.actor), data["host"])
            if data["host"] is None:
                raise NotFound("There is no such host.")
        vm = requests.request_vm(self.actor, **data)
        if vm.state != State.PENDING:  # it was ready, and has a host and a lease
            return self.find(vm.pk, self.get_queryset())
        # All that is shown of it is known: nothing of what comes later need be asked for.
        VirtualMachine.lease.related.set_cached_value(vm, None)
        vm.current_placements, vm.ended_placements = [], []  # type: ignore[attr-defined]
        return vm

    def get_serializer_context(self) -> dict[str, Any]:
        context = dict(super().get_serializer_context())
        if self.request and self.request.method == "POST":
            context["places"] = {}  # what was asked for just now has none in the queue yet
        return context

    def answer(self, thing: VirtualMachine) -> Response:
        response = super().answer(thing)
        response["Location"] = self.location(thing)
        if thing.create_job_id:
            url = reverse("api:vm", kwargs={"id": thing.pk})
            waiting.hold(response, thing.create_job_id, url, 201)
        return response


class VMItem(VMView, Shows, DeletesByVerb):
    docs = {
        "GET": "Show a VM.",
        "DELETE": "Delete a VM, whatever it is doing. One that waits for a host is cancelled.",
    }

    def rows(self) -> QuerySet[VirtualMachine]:
        return self.acted_on() if self.request.method == "DELETE" else super().rows()

    def remove(self, target: VirtualMachine) -> Job:
        return ending.request_delete(self.actor, target)


class VMPlacement(VMView):
    output = serializers.PlacementOutput
    docs = {"GET": "Explain why the VM is where it is, why it waits, or why not on another host."}
    query: ClassVar[dict[str, list[Any]]] = {
        "GET": [OpenApiParameter("why_not", str, description="A host: id or name.")]
    }

    def get(self, request: Request, **kwargs: Any) -> Response:
        vm = self.target()
        reference = request.query_params.get("why_not")
        why_not = None
        if reference is not None:
            host = resolve(Host.objects.visible_to(self.actor), reference, field="why_not")
            if rejection := why_not_host(vm, host):
                why_not = {"host": host.name, "rule": rejection.rule, "detail": rejection.detail}
        attempts = (
            vm.placements.select_related("host")
            .defer("host__password", "host__api_key")
            .order_by("-id")
        )
        return Response(
            self.represent(
                {
                    "vm": vm.pk,
                    "state": vm.state,
                    "reason": vm.reason,
                    "attempts": attempts,
                    "why_not": why_not,
                }
            )
        )


class VMVerb(VMView, VerbView):
    """A verb on a VM."""

    output = VerbView.output

    def rows(self) -> QuerySet[VirtualMachine]:
        return self.acted_on()

    def check_replay(self) -> None:
        self.actor.require_scope("vms")


class VMStart(VMVerb):
    docs = {"POST": "Start a stopped or suspended VM."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.start(self.actor, target)


class VMStop(VMVerb):
    input = serializers.StopInput
    docs = {"POST": "Stop a VM: its guest is asked to shut down, and forced when it does not."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.stop(self.actor, target, **data)


class VMResume(VMVerb):
    docs = {"POST": "Let a suspended or paused VM run on."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.resume(self.actor, target)


class VMPause(VMVerb):
    docs = {"POST": "Freeze a running VM in its host's memory."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.pause(self.actor, target)


class VMRestart(VMVerb):
    docs = {"POST": "Shut a running VM down and boot it. Ends when it has an IP again."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.restart(self.actor, target)


class VMReset(VMVerb):
    docs = {"POST": "Cut the power of a running VM and boot it."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.reset(self.actor, target)


class VMResize(VMVerb):
    input = serializers.ResizeInput
    docs = {"POST": "Give a stopped VM another size. What it grows by is charged at once."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.resize(self.actor, target, **data)


class VMConfigure(VMVerb):
    input = ConfigureInput
    docs = {
        "POST": "Configure a VM. A size and most options need it stopped. Shared folders need the "
        "right to manage hosts, or a path that the operators allow."
    }

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        wish = wish_of(data)
        return verbs.configure(self.actor, target, wish, **data)


class VMRename(VMVerb):
    input = serializers.RenameInput
    docs = {"POST": "Give a VM another name: here at once, on its host by the job."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.rename(self.actor, target, **data)


class VMClone(VMVerb):
    input = serializers.CloneInput
    docs = {
        "POST": "Clone a stopped VM on its host. The job is the one that makes the new VM, which "
        "is its subject."
    }

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        job = verbs.clone(self.actor, target, **data).create_job
        assert job is not None
        return job


class VMCloneToTemplate(VMVerb):
    input = serializers.CloneToTemplateInput
    permission = "templates.manage"
    docs = {
        "POST": "Clone a stopped VM on its host, and make a template whose VMs are cloned from "
        "that clone. The job's result names the template."
    }

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.clone_to_template(self.actor, target, **data)


class VMUpload(VMVerb):
    input = serializers.UploadInput
    docs = {"POST": "Copy a file from the disk of the VM's host into the running guest."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.upload(self.actor, target, **data)


class VMSuspend(VMVerb):
    docs = {"POST": "Suspend a running VM to disk."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.suspend(self.actor, target)


class VMExecute(VMVerb):
    input = serializers.ExecuteInput
    docs = {
        "POST": "Run a command or a script in the guest, once. The job's result is "
        "`{exit_code, stdout, stderr, timed_out}`."
    }

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return verbs.execute(self.actor, target, **data)


class VMExtend(VMVerb):
    input = serializers.ExtendInput
    docs = {"POST": "Let the lease end so many seconds from now, within template and grant."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return leases.extend(self.actor, target, seconds=data.get("lease_seconds"))


class VMHeartbeat(VMVerb):
    docs = {
        "POST": "Say that a pipeline still works with the VM: the lease ends as much later as was "
        "first asked for. All heartbeats of an account on a VM are one job."
    }

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return leases.heartbeat(self.actor, target)


class VMHold(VMVerb):
    input = serializers.KeepInput
    docs = {
        "POST": "Keep a VM for debugging: neither the end of its lease nor a token deletes it "
        "meanwhile."
    }

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return leases.hold(self.actor, target, **data)


class VMRelease(VMVerb):
    docs = {"POST": "Keep a VM no longer. A lease whose time is over ends now."}

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return leases.release(self.actor, target)
