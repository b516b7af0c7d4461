"""Adopting foreign VMs of a host, and letting VMs go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accounts.models import User
from hosts.api import HostVerb
from orchestrator.api.references import resolve
from orchestrator.api.serializers import Input, Text, Whole
from vms import adoption
from vms.api.machines import VMVerb
from vms.api.templates import template_named

if TYPE_CHECKING:
    from hosts.models import Host
    from jobs.models import Job
    from vms.models import VirtualMachine


class AdoptInput(Input):
    host_vm_id = Text(max_length=255, help_text="As `hosts/<id>/vms/` names it.")
    template = Text(max_length=100, help_text="Id or name: who may use the VM, and its lease.")
    owner = Text(max_length=150, required=False, help_text="Id or name. Default: you.")
    name = Text(max_length=63, required=False, help_text="Default: as on its host.")
    lease_seconds = Whole(min_value=1, required=False)


class HostAdopt(HostVerb):
    input = AdoptInput
    docs = {
        "POST": "Make a foreign VM of a host ours. Its subject is the new VM, which works at once; "
        "the job gives it a name with our mark on its host."
    }

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        for right in adoption.RIGHTS:  # before templates and accounts are told from absent ones
            self.actor.require(right)
        data["template"] = template_named(self.actor, data["template"])
        if "owner" in data:
            data["owner"] = resolve(
                User.objects.all(), data["owner"], field="owner", name="username"
            )
        return adoption.adopt(self.actor, target, **data)


class VMLetGo(VMVerb):
    permission = "hosts.manage"
    docs = {
        "POST": "Manage a VM no longer, without deleting it: it becomes foreign again, without our "
        "mark in its name on its host."
    }

    def act(self, target: VirtualMachine, data: dict[str, Any]) -> Job:
        return adoption.let_go(self.actor, target)
