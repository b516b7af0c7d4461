"""Receipts of VMs that ended, in JSON."""

from __future__ import annotations

from rest_framework import serializers

from orchestrator.api.serializers import Output, ReferenceOutput
from vms.models import Receipt, Residue
from vms.residue.checking import KINDS


class CheckOutput(Output):
    """One kind of thing that was looked at after a VM's end."""

    kind = serializers.ChoiceField(KINDS)
    found = serializers.ChoiceField(
        ["gone", "stayed", "unknown", "compared"],
        help_text="`unknown`: not checked, `detail` says why. `compared`: of free disk.",
    )
    detail = serializers.CharField()


class ResidueOutput(Output):
    """One thing that a VM left on its host."""

    id = serializers.UUIDField()
    vm = ReferenceOutput(source="receipt.placement.vm")
    host = ReferenceOutput(source="receipt.placement.host")
    kind = serializers.ChoiceField(
        Residue.Kind.choices,
        help_text="A VM under its name, a VM with its mark or in its folder, its folder.",
    )
    reference = serializers.CharField(help_text="The VM's id on the host, or the path.")
    detail = serializers.CharField()
    ours = serializers.BooleanField(help_text="It carries our mark: `fix` removes it.")
    found_at = serializers.DateTimeField(source="created_at")
    seen_at = serializers.DateTimeField(help_text="When it was there last.")
    fixed_at = serializers.DateTimeField(allow_null=True, help_text="Null: it is still there.")
    job = serializers.UUIDField(
        source="job_id", allow_null=True, help_text="The last job that was to remove it."
    )


class ReceiptOutput(Output):
    """What is left of a VM on its host, as far as the host shows it."""

    verdict = serializers.ChoiceField(
        [choice for choice in Receipt.Verdict.choices if choice[0] != Receipt.Verdict.OPEN],
        help_text="`incomplete`: nothing was seen to stay, but not all could be looked at.",
    )
    checked_at = serializers.DateTimeField()
    checks = CheckOutput(many=True)
    left = serializers.IntegerField(help_text="How much is still there; see `residues/?vm=`.")
    disk_delta_gib = serializers.IntegerField(
        allow_null=True,
        help_text="Free disk after minus before; null where other VMs or images came or went.",
    )
