"""The record of what is deployed where."""

from __future__ import annotations

from django.db import models

from deployments.models.environments import Environment
from deployments.models.packages import Application, Package
from hosts.models import Host
from orchestrator.db.models import BaseModel
from vms.models import VirtualMachine


class DeployedApplication(BaseModel):
    """“Application A at version V is on environment E.”"""

    environment = models.ForeignKey(
        Environment, on_delete=models.PROTECT, related_name="deployed_applications"
    )
    application = models.ForeignKey(Application, on_delete=models.PROTECT, related_name="+")
    package = models.ForeignKey(
        Package, on_delete=models.PROTECT, related_name="deployed_applications"
    )
    orchestrators = models.JSONField(default=list)  # those of the last deployment
    # Pulled in by another application that needs it, not chosen by a person.
    as_dependency = models.BooleanField(default=False)
    # Left incomplete: the last deployment was cancelled before all of it was done.
    partial = models.BooleanField(default=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "application"], name="deployed_application_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.package} on {self.environment}"


class Deployed(BaseModel):
    """A deployable on a container, as it is there.

    `value` is what `deployments.deltas.Value` holds: type, resolved properties, checksum. Secrets
    are in it as references only.
    """

    deployed_application = models.ForeignKey(
        DeployedApplication, on_delete=models.CASCADE, related_name="deployeds"
    )
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=100)
    container = models.CharField(max_length=60)  # path: vm:<id>, host:<id>
    container_name = models.CharField(max_length=100)
    vm = models.ForeignKey(VirtualMachine, on_delete=models.SET_NULL, null=True, related_name="+")
    host = models.ForeignKey(Host, on_delete=models.SET_NULL, null=True, related_name="+")
    # The VM that this deployed made.
    created_vm = models.ForeignKey(
        VirtualMachine, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    position = models.PositiveIntegerField()  # its place in delta order
    value = models.JSONField(default=dict)

    class Meta:
        ordering = ["position"]
        constraints = [
            # What is deployed lies under its container, where a name is taken once.
            models.UniqueConstraint(
                fields=["environment", "container", "name"], name="deployed_once_per_container"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} on {self.container_name}"
