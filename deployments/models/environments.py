"""Where packages go: environments with their members, and dictionaries of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from deployments.models.packages import Application
from hosts.models import Host
from orchestrator.db.fields import EncryptedTextField
from orchestrator.db.models import BaseModel
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from accounts.actors import Actor


class EnvironmentQuerySet(models.QuerySet["Environment"]):
    def visible_to(self, actor: Actor) -> EnvironmentQuerySet:
        return self if actor.can("deployments.view") else self.none()


class Environment(BaseModel):
    """A named set of VMs and hosts, with ordered dictionaries and a policy."""

    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    policy = models.JSONField(
        default=dict, blank=True
    )  # max_unavailable, on_failure: `deployments.policies`
    # Name of a load balancer → the VM on which its scripts take members out and put them back.
    balancers = models.JSONField(default=dict, blank=True)
    # Only those on its list act in it (`EnvironmentAccess`); else whoever has a role that may.
    restricted = models.BooleanField(default=False)

    objects = EnvironmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="environment_name_unique",
                violation_error_message="An environment of this name exists.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def subject(self) -> str:
        return f"environment:{self.pk}"


class Member(BaseModel):
    """A VM, a host, or all VMs or hosts that have a tag, with their place in this environment.

    One VM may be in several environments, with other numbers in each. A VM or host that is named
    wins over a tag that matches it.
    """

    class Noun(models.TextChoices):
        VM = "vm", "VM"
        HOST = "host", "host"

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="members")
    vm = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, null=True, related_name="+")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, null=True, related_name="+")
    # A live query: whatever has this tag when a deployment is prepared.
    noun = models.CharField(max_length=4, choices=Noun.choices, blank=True)
    tag = models.CharField(max_length=100, blank=True)
    group = models.IntegerField(null=True)
    sub_group = models.IntegerField(null=True)
    sub_sub_group = models.IntegerField(null=True)
    labels = models.JSONField(default=dict)
    tags = models.JSONField(default=list)  # for mapping, besides those of the VM or host
    balancer = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(vm__isnull=False, host__isnull=True, noun="", tag="")
                | Q(vm__isnull=True, host__isnull=False, noun="", tag="")
                | (Q(vm__isnull=True, host__isnull=True) & ~Q(noun="") & ~Q(tag="")),
                name="member_is_one_thing",
            ),
            models.UniqueConstraint(
                fields=["environment", "vm"], condition=Q(vm__isnull=False), name="member_vm_once"
            ),
            models.UniqueConstraint(
                fields=["environment", "host"],
                condition=Q(host__isnull=False),
                name="member_host_once",
            ),
            models.UniqueConstraint(
                fields=["environment", "noun", "tag"],
                condition=~Q(tag=""),
                name="member_tag_once",
            ),
        ]

    def __str__(self) -> str:
        return str(self.vm or self.host or f"{self.noun}s tagged {self.tag}")


class DictionaryQuerySet(models.QuerySet["Dictionary"]):
    def visible_to(self, actor: Actor) -> DictionaryQuerySet:
        return self if actor.can("deployments.view") else self.none()


class Dictionary(BaseModel):
    """Values for placeholders. May be for some applications or containers only."""

    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    environments = models.ManyToManyField(
        Environment, through="EnvironmentDictionary", related_name="dictionaries"
    )
    applications = models.ManyToManyField(Application, related_name="+")
    containers = models.JSONField(default=list, blank=True)  # paths: vm:<id>, host:<id>

    objects = DictionaryQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="dictionary_name_unique",
                violation_error_message="A dictionary of this name exists.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def subject(self) -> str:
        return f"dictionary:{self.pk}"


class EnvironmentDictionary(models.Model):
    """A dictionary of an environment; the first in order that has a key wins."""

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="uses")
    dictionary = models.ForeignKey(Dictionary, on_delete=models.CASCADE, related_name="used_by")
    position = models.PositiveIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "dictionary"], name="dictionary_once_per_environment"
            )
        ]

    def __str__(self) -> str:
        return f"{self.environment_id}/{self.position}"


class DictionaryEntry(BaseModel):
    """One value. A secret one is encrypted, and is named, never shown, wherever it is used.

    `revision` counts changes, so that a deployment notices a changed secret without keeping it.
    """

    dictionary = models.ForeignKey(Dictionary, on_delete=models.CASCADE, related_name="entries")
    key = models.CharField(max_length=200)
    value = models.TextField(blank=True)
    secret = models.BooleanField(default=False)
    secret_value = EncryptedTextField(blank=True)
    revision = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["key"]
        constraints = [
            models.UniqueConstraint(fields=["dictionary", "key"], name="entry_key_unique"),
            models.CheckConstraint(
                condition=Q(secret=False, secret_value="") | Q(secret=True, value=""),
                name="entry_secret_only_encrypted",
            ),
        ]

    def __str__(self) -> str:
        return self.key
