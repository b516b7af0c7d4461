"""What of VMs is configured beside their size, over the API: options, shared folders, devices."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from orchestrator.api.serializers import Flag, Input, Output, Text, Texts, Whole
from vms.configuration import ACTIONS, LONGEST_PATH, MOST, OPTIONS, FolderWish, Wish


class FolderOutput(Output):
    """A folder of its host that a VM may see."""

    path = serializers.CharField()
    writable = serializers.BooleanField()
    enabled = serializers.BooleanField()
    description = serializers.CharField(allow_blank=True)


class ConfigurationOutput(Output):
    """How a VM is set up beside its size."""

    options = serializers.DictField(
        child=serializers.CharField(allow_blank=True), default={}, help_text="By flag."
    )
    folders = serializers.DictField(child=FolderOutput(), default={}, help_text="By name.")
    devices = serializers.DictField(
        child=serializers.BooleanField(), default={}, help_text="Whether each is connected."
    )


class FolderInput(Input):
    """A shared folder as it is to be. What is left out stays, or is off for a new one."""

    name = Text(max_length=64)
    path = Text(max_length=LONGEST_PATH, required=False, help_text="On the VM's host.")
    writable = Flag(required=False)
    enabled = Flag(required=False, help_text="Default of a new one: true.")
    description = Text(max_length=200, required=False, allow_blank=True)


class ConfigureInput(Input):
    """What is to change of a VM, in one job."""

    cpus = Whole(min_value=1, required=False)
    memory_mib = Whole(min_value=1, required=False)
    disk_gib = Whole(min_value=1, required=False, help_text="A disk only grows.")
    options = serializers.DictField(
        child=Text(max_length=255, allow_blank=True),
        required=False,
        help_text=f"Values by flag of `prlctl set`. Flags: {', '.join(OPTIONS)}.",
    )
    folders = FolderInput(many=True, required=False, max_length=MOST)  # type: ignore[call-arg]
    unshared = Texts(required=False, help_text="Names of folders to be shared no more.")
    devices = serializers.DictField(
        child=Flag(), required=False, help_text="Whether each is connected, as `net0`."
    )
    actions = serializers.ListField(
        child=serializers.ChoiceField(sorted(ACTIONS)), required=False, max_length=len(ACTIONS)
    )


def wish_of(data: dict[str, Any]) -> Wish:
    """Take what is no size out of checked input, and return it as a wish."""
    folders: dict[str, FolderWish | None] = dict.fromkeys(data.pop("unshared", ()))
    for row in data.pop("folders", ()):
        name = row.pop("name")
        folders[name] = FolderWish(**row)
    return Wish(
        options=data.pop("options", {}),
        folders=folders,
        devices=data.pop("devices", {}),
        actions=data.pop("actions", []),
    )
