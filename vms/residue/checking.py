"""Comparing a host with what it was before a VM: what is gone, what stayed, what nobody can tell.

Only what the host shows is claimed (docs/decisions/0011-residue.md).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from hosts import inventory
from hosts.calls import driver_of
from hosts.drivers.base import HostError
from hosts.models import HostStatus, HostVM
from vms.marks import mark_of, mark_of_folder
from vms.models import Residue
from vms.residue import noting

if TYPE_CHECKING:
    from datetime import datetime

    from vms.models import Placement, Receipt

Kind = Literal["name", "vm", "bundle", "snapshots", "disk"]
KINDS: tuple[Kind, ...] = ("name", "vm", "bundle", "snapshots", "disk")
Found = Literal["gone", "stayed", "unknown", "compared"]
NOT_NOTED = "Nothing was noted before its end: its host had no such VM to ask about then."
NO_HOME = "The host did not say where its files were."
NO_SNAPSHOTS = "The host did not list its snapshots before its end."
LISTED_KINDS = (Residue.Kind.NAME, Residue.Kind.VM)


@dataclass(frozen=True)
class Check:
    """One line of a receipt. `detail` of an `unknown` says why."""

    kind: Kind
    found: Found
    detail: str


@dataclass(frozen=True)
class Left:
    """One thing that stayed; `ours` says that it carries the placement's mark."""

    kind: Residue.Kind
    reference: str
    detail: str
    ours: bool


@dataclass(frozen=True)
class Findings:
    """What was found, and of which kinds of residue all that there is is in `left`."""

    checks: list[Check]
    left: list[Left] = field(default_factory=list)
    complete: frozenset[str] = frozenset()
    free_disk_gib: int | None = None
    disk_is_comparable: bool = False

    @property
    def is_clean(self) -> bool:
        """Return whether everything but the disk was looked at and is gone.

        Free disk moves by itself, so it tells nothing that would make a receipt clean or not.
        """
        return all(check.found == "gone" for check in self.checks if check.kind != "disk")

    def as_json(self) -> list[dict[str, str]]:
        return [asdict(check) for check in self.checks]


def nothing_known(why: str) -> Findings:
    """Return the findings of a look that did not come about."""
    return Findings([Check(kind, "unknown", why) for kind in KINDS])


def look(receipt: Receipt, since: datetime, *, last: bool) -> Findings | None:
    """Compare the host's list, begun at `since` or later, and the folder with the receipt.

    Asks the host for a list only if no such one is recorded; returns None when the new one does not
    count (yet). Raises `HostError`; with `last` only if there is no list, as there is no other try.
    """
    placement = receipt.placement
    if not _is_listed(placement, since):
        inventory.refresh(placement.host)
        if not _is_listed(placement, since):
            return None
    listed = list(HostVM.objects.filter(host=placement.host_id))
    left = _listed_leftovers(receipt, listed)
    bundle, folder = _look_at_bundle(receipt, listed, last=last)
    complete = {*LISTED_KINDS, *([Residue.Kind.BUNDLE] if bundle.found != "unknown" else [])}
    disk, free, comparable = _compare_disk(receipt)
    return Findings(
        [
            _check_of(left, "name", f"No VM is named {placement.host_name}."),
            _check_of(left, "vm", "No VM carries its mark or uses its folder."),
            bundle,
            _snapshots(receipt, bundle),
            disk,
        ],
        [*left, *folder],
        frozenset(complete),
        free,
        comparable,
    )


def _is_listed(placement: Placement, since: datetime) -> bool:
    return HostStatus.objects.filter(host=placement.host_id, inventory_at__gte=since).exists()


def _listed_leftovers(receipt: Receipt, listed: list[HostVM]) -> list[Left]:
    """Return the VMs that have the name or mark of the one that ended, or that use its folder."""
    placement = receipt.placement
    left = []
    for vm in listed:
        ours = mark_of(vm.name) == placement.mark
        if vm.name == placement.host_name:
            text = f"The VM {vm.name} ({vm.state}) is registered under its name."
            left.append(Left(Residue.Kind.NAME, vm.host_vm_id, text, ours))
        elif ours:
            text = f"The VM {vm.name} ({vm.state}) carries its mark."
            left.append(Left(Residue.Kind.VM, vm.host_vm_id, text, ours))
        elif receipt.bundle and vm.home == receipt.bundle:
            text = f"The VM {vm.name} ({vm.state}) uses its folder {vm.home}."
            left.append(Left(Residue.Kind.VM, vm.host_vm_id, text, ours))
    return left


def _check_of(left: list[Left], kind: Kind, gone: str) -> Check:
    found = " ".join(one.detail for one in left if one.kind == kind)
    return Check(kind, "stayed" if found else "gone", found or gone)


def _look_at_bundle(
    receipt: Receipt, listed: list[HostVM], *, last: bool
) -> tuple[Check, list[Left]]:
    """Measure the folder. Nothing measured means gone only if the host measured it before."""
    path = receipt.bundle
    if not path:
        return Check("bundle", "unknown", _why_not_noted(receipt, NO_HOME)), []
    try:
        with driver_of(receipt.placement.host) as driver:
            size = driver.folder_size(path, receipt.bundle_owner)
    except HostError as error:
        if not last and not error.permanent:
            raise
        return Check("bundle", "unknown", error.message), []
    if not size and not receipt.bundle_mib:
        why = f"The host measured nothing in {path} before its end, either."
        return Check("bundle", "unknown", receipt.problem or why), []
    if not size:
        return Check("bundle", "gone", f"Nothing is in {path} any more."), []
    text = f"The folder {path} is still there, with {size} MiB."
    if user := next((vm for vm in listed if vm.home == path), None):
        # It goes with that VM, which is listed as left over itself.
        return Check("bundle", "stayed", f"{text} The VM {user.name} uses it."), []
    ours = mark_of_folder(path) == receipt.placement.mark
    return Check("bundle", "stayed", text), [Left(Residue.Kind.BUNDLE, path, text, ours)]


def _snapshots(receipt: Receipt, bundle: Check) -> Check:
    """Snapshots are in the folder, and a host lists those of its VMs only."""
    if receipt.snapshots is None:
        return Check("snapshots", "unknown", _why_not_noted(receipt, NO_SNAPSHOTS))
    if not receipt.snapshots:
        return Check("snapshots", "gone", "It had none.")
    had = f"It had {receipt.snapshots}, in its folder"
    match bundle.found:
        case "gone":
            return Check("snapshots", "gone", f"{had}, which is gone.")
        case "stayed":
            return Check("snapshots", "stayed", f"{had}, which stayed.")
        case _:
            return Check("snapshots", "unknown", f"{had}, and nobody knows whether that is gone.")


def _why_not_noted(receipt: Receipt, otherwise: str) -> str:
    return receipt.problem or (otherwise if receipt.noted_at else NOT_NOTED)


def _compare_disk(receipt: Receipt) -> tuple[Check, int, bool]:
    placement, before = receipt.placement, receipt.free_disk_gib_before
    after = noting.free_disk_gib(placement.host_id)
    if before is None:
        why = f"{after} GiB are free; not known before it was made."
        return Check("disk", "unknown", why), after, False
    numbers = f"{before} GiB were free before it was made, {after} GiB are after"
    if noting.company(placement.host_id, placement.host_vm_id) != receipt.company:
        why = f"Not comparable: {numbers}, and other VMs or cached images came or went."
        return Check("disk", "unknown", why), after, False
    return Check("disk", "compared", f"{after - before:+d} GiB: {numbers}."), after, True
