"""Draining hosts of their VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hosts.api import HostVerb
from orchestrator.api.serializers import Input, Moment, OneOf, Text
from vms import draining
from vms.models import Drain

if TYPE_CHECKING:
    from hosts.models import Host
    from jobs.models import Job


class DrainInput(Input):
    reason = Text(max_length=300, help_text="Everybody sees it.")
    policy = OneOf(
        Drain.Policy.choices,
        required=False,
        help_text="What becomes of its VMs at the deadline, or at once without one. Default: wait.",
    )
    deadline = Moment(required=False, allow_null=True)


class HostDrain(HostVerb):
    input = DrainInput
    docs = {
        "POST": "Drain a host: no new VMs come, those there leave. Nothing moves them elsewhere."
    }

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return draining.drain(self.actor, target, **data)


class HostUndrain(HostVerb):
    docs = {"POST": "End the drain of a host. What it has begun to stop or delete goes on."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return draining.undrain(self.actor, target)
