"""What a receipt knows from before: the host's disk and company, the VM's folder and snapshots."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from django.db.models.functions import Now

from catalog.models import HostImage
from hosts.drivers.base import HostError
from hosts.models import HostCapacity, HostStatus, HostVM
from vms.models import Receipt

if TYPE_CHECKING:
    from uuid import UUID

    from hosts.drivers.base import Driver
    from vms.models import Placement


def before_create(placement: Placement) -> None:
    """Begin the receipt with the host's last list. A create sent again changes nothing."""
    host_id = placement.host_id
    listed_at = HostStatus.objects.values_list("inventory_at", flat=True).get(host=host_id)
    Receipt.objects.get_or_create(
        placement=placement,
        defaults={
            "listed_before_at": listed_at,
            "free_disk_gib_before": free_disk_gib(host_id) if listed_at else None,
            "company": company(host_id, placement.host_vm_id),
        },
    )


def before_delete(placement: Placement, driver: Driver) -> None:
    """Note where the VM's files are, how large they are, and its snapshots.

    Raises nothing: what the host does not say is not known then, and the end goes on.
    """
    receipt = Receipt.objects.filter(placement=placement, noted_at=None).first()
    if receipt is None:
        return
    try:
        listed = HostVM.objects.filter(host=placement.host_id, host_vm_id=placement.host_vm_id)
        receipt.bundle = listed.values_list("home", flat=True).first() or ""
        remote = driver.read_vm(placement.host_vm_id)
        receipt.bundle, receipt.bundle_owner = remote.home, remote.user
        receipt.snapshots = len(driver.snapshots(placement.host_vm_id))
        if receipt.bundle:
            receipt.bundle_mib = driver.folder_size(receipt.bundle, receipt.bundle_owner)
    except HostError as error:
        receipt.problem = error.message[:300]
    receipt.noted_at = Now()
    receipt.save(
        update_fields=[
            *("bundle", "bundle_owner", "bundle_mib", "snapshots", "problem", "noted_at"),
        ]
    )


def free_disk_gib(host_id: UUID) -> int:
    """Return the GiB of disk that were free by the host's last list."""
    return HostCapacity.objects.values_list("disk_gib_free", flat=True).get(host=host_id)


def company(host_id: UUID, without: str) -> str:
    """Return a digest of the host's VMs but the one `without`, and of its cached images.

    Free disk before and after can be compared only where this is the same.
    """
    vms = HostVM.objects.filter(host=host_id).exclude(host_vm_id=without)
    images = HostImage.objects.filter(host=host_id)
    present = [
        *sorted(vms.values_list("host_vm_id", flat=True)),
        *sorted(
            ":".join(row) for row in images.values_list("catalog_id", "version", "architecture")
        ),
    ]
    return sha256("\n".join(present).encode()).hexdigest()
