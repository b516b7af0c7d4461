"""What was looked at after a VM's end, and what it left on its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q

from orchestrator.db.models import BaseModel
from vms.models.machines import Placement, VirtualMachine

if TYPE_CHECKING:
    from accounts.actors import Actor


class Receipt(BaseModel):
    """What a host had before a placement's VM was made, and what was left of it after its end.

    Begun when the create is sent; `checked_at` is empty until the VM has ended. `checks` is a list
    of `{kind, found, detail}`, one for each kind of thing: see `vms.residue.checking.Check`.
    """

    class Verdict(models.TextChoices):
        OPEN = "open"  # not looked yet
        CLEAN = "clean"  # everything was looked at, and nothing is left
        RESIDUE = "residue"  # something stayed
        INCOMPLETE = "incomplete"  # nothing was seen to stay, but not all could be looked at

    placement = models.OneToOneField(Placement, on_delete=models.CASCADE, related_name="receipt")
    # Before the create: by the host's last list then. `company` is a digest of the other VMs and
    # cached images of that list; where it is the same after, free disk may be compared.
    listed_before_at = models.DateTimeField(null=True)
    free_disk_gib_before = models.PositiveIntegerField(null=True)
    company = models.CharField(max_length=64, blank=True)
    # Before the delete, by the host. Null: it was not asked, or did not say.
    bundle = models.CharField(max_length=1024, blank=True)
    bundle_owner = models.CharField(max_length=255, blank=True)  # the account on the host
    bundle_mib = models.PositiveIntegerField(null=True)
    snapshots = models.PositiveIntegerField(null=True)
    noted_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)  # why something of it is not known
    # After the end.
    checked_at = models.DateTimeField(null=True)
    verdict = models.CharField(max_length=12, choices=Verdict.choices, default=Verdict.OPEN)
    checks = models.JSONField(default=list)
    free_disk_gib_after = models.PositiveIntegerField(null=True)
    disk_is_comparable = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"{self.verdict} {self.placement_id}"

    @property
    def left(self) -> int:
        """How much of it is still there; for rows with their residues prefetched."""
        return sum(one.fixed_at is None for one in self.residues.all())

    @property
    def disk_delta_gib(self) -> int | None:
        """How many GiB more are free after than before; None where that would tell nothing."""
        if not self.disk_is_comparable:
            return None
        assert self.free_disk_gib_after is not None
        assert self.free_disk_gib_before is not None
        return self.free_disk_gib_after - self.free_disk_gib_before


class ResidueQuerySet(models.QuerySet["Residue"]):
    def open(self) -> ResidueQuerySet:
        """Return what is still there, on hosts of the pool, as far as it is known."""
        return self.filter(fixed_at=None, receipt__placement__host__removed_at=None)

    def visible_to(self, actor: Actor) -> ResidueQuerySet:
        """Return what was left by VMs that the actor may see."""
        vms = VirtualMachine.objects.all().visible_to(actor)
        return self.filter(receipt__placement__vm__in=vms)

    def on_host(self, host_id: object) -> ResidueQuerySet:
        return self.filter(receipt__placement__host=host_id)

    def for_page(self) -> ResidueQuerySet:
        """Return residues with what a list shows of them; secrets of hosts are not read."""
        return self.select_related(
            "receipt__placement__vm", "receipt__placement__host", "job"
        ).defer("receipt__placement__host__password", "receipt__placement__host__api_key")


class Residue(BaseModel):
    """One thing that a VM left on its host. `ours` says that it carries our mark."""

    class Kind(models.TextChoices):
        NAME = "name"  # a VM that has its name
        VM = "vm"  # a VM with its mark, or in its folder, under another name
        BUNDLE = "bundle"  # its folder, which no VM uses

    receipt = models.ForeignKey(Receipt, on_delete=models.CASCADE, related_name="residues")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    reference = models.CharField(max_length=1024)  # the VM's id on the host, or the path
    detail = models.CharField(max_length=1500)
    ours = models.BooleanField()
    seen_at = models.DateTimeField()
    fixed_at = models.DateTimeField(null=True)
    job = models.ForeignKey(
        "jobs.Job", on_delete=models.SET_NULL, null=True, related_name="+"
    )  # the last one that was to remove it

    objects = ResidueQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["receipt", "kind", "reference"], name="residue_once")
        ]
        indexes = [
            models.Index(fields=["-id"], name="residue_open", condition=Q(fixed_at__isnull=True))
        ]

    def __str__(self) -> str:
        return self.detail

    @property
    def is_being_fixed(self) -> bool:
        return self.job is not None and not self.job.is_final
