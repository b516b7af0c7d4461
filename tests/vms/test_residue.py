"""What VMs leave on their hosts: the receipt, what stayed, and removing what is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db.models.functions import Now

from accounts.models import AuditEvent
from events.models import Event
from hosts import inventory, removal
from hosts.models import Host
from jobs import running
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden
from tests.vms.conftest import reread
from vms import ending, residue
from vms.models import Receipt, Residue, VirtualMachine
from vms.residue import recording
from vms.verbs import rename

if TYPE_CHECKING:
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@pytest.fixture
def vm(pool: Pool, worker: Worker) -> VirtualMachine:
    return made(pool, worker, "build")


def made(pool: Pool, worker: Worker, name: str) -> VirtualMachine:
    """Return a VM that runs, whose host lists it."""
    asked = pool.ask(name=name)
    worker.finish(asked.create_job)  # type: ignore[arg-type]
    vm = reread(asked)
    assert vm.host and vm.state == "running"
    inventory.refresh(vm.host)
    return vm


def number_of(pool: Pool, vm: VirtualMachine) -> int:
    assert vm.host
    return [host.pk for host in pool.hosts].index(vm.host.pk) + 1


def host_of(pool: Pool, vm: VirtualMachine, **changes: Any) -> dict[str, Any]:
    """Look at the simulated host of `vm`, or change it."""
    return pool.simulation.control(number_of(pool, vm), **changes)


def ended(pool: Pool, worker: Worker, vm: VirtualMachine) -> Receipt:
    """Delete `vm` and return its receipt once it is written."""
    worker.finish(ending.request_delete(pool.alice, vm))
    assert reread(vm).state == "deleted"
    worker.until(lambda: Receipt.objects.filter(placement__vm=vm, checked_at__isnull=False))
    return Receipt.objects.get(placement__vm=vm)


def found(receipt: Receipt) -> dict[str, str]:
    return {check["kind"]: check["found"] for check in receipt.checks}


def detail(receipt: Receipt, kind: str) -> str:
    return next(check["detail"] for check in receipt.checks if check["kind"] == kind)


def events(kind: str) -> list[dict[str, Any]]:
    return list(Event.objects.filter(kind=kind).values_list("data", flat=True))


def test_a_vm_that_leaves_nothing_gets_a_clean_receipt(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    receipt = ended(pool, worker, vm)
    assert receipt.verdict == "clean", receipt.checks
    assert found(receipt).items() >= {
        ("name", "gone"),
        ("vm", "gone"),
        ("bundle", "gone"),
        ("snapshots", "gone"),
    }
    assert vm.placements.get().host_name in detail(receipt, "bundle")
    assert not Residue.objects.exists()
    assert events("vm.receipt") == [
        {"name": "build", "host": vm.host.name, "verdict": "clean", "left": 0}  # type: ignore[union-attr]
    ]
    assert not events("vm.residue")


def test_a_folder_that_stays_is_listed_and_removed_at_a_click(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    host_of(pool, vm, faults={"keepbundle": 1})
    receipt = ended(pool, worker, vm)
    (bundle,) = host_of(pool, vm, faults={"keepbundle": 0})["bundles"]
    assert receipt.verdict == "residue"
    left = Residue.objects.open().get()
    assert (left.kind, left.reference, left.ours) == ("bundle", bundle, True)
    assert vm.placements.get().mark in left.detail
    assert events("vm.residue") == [
        {"name": "build", "host": vm.host.name, "verdict": "residue", "left": 1}  # type: ignore[union-attr]
    ]
    assert AuditEvent.objects.filter(action="vm.residue", subject=vm.subject).exists()

    job = residue.fix(pool.alice, left)
    assert residue.fix(pool.alice, left) == job
    assert worker.finish(job).state == "done"
    assert host_of(pool, vm)["bundles"] == []
    left.refresh_from_db()
    receipt.refresh_from_db()
    assert left.fixed_at
    assert (receipt.verdict, found(receipt)["bundle"]) == ("clean", "gone")
    with pytest.raises(Conflict):
        residue.fix(pool.alice, left)


def test_a_fix_that_lost_its_worker_after_registering_goes_on(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    host_of(pool, vm, faults={"keepbundle": 1})
    ended(pool, worker, vm)
    host = host_of(pool, vm, faults={"keepbundle": 0})
    left = Residue.objects.get()
    placement = vm.placements.get()
    # As the lost worker left it: registered under our name, not deleted, and no list has shown it.
    again = {
        "id": "{again}",
        "name": placement.host_name,
        "state": "stopped",
        "home": left.reference,
    }
    host_of(pool, vm, vms=[*host["vms"], again])
    assert worker.finish(residue.fix(pool.alice, left)).state == "done"
    assert placement.host_name not in pool.simulation.all_vm_names()


def test_a_vm_that_has_the_name_is_listed_and_removed_at_a_click(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    host_of(pool, vm, faults={"keepname": 1})
    receipt = ended(pool, worker, vm)
    host_of(pool, vm, faults=None)
    placement = vm.placements.get()
    left = Residue.objects.get()
    assert (left.kind, left.ours) == ("name", True)
    assert left.reference != placement.host_vm_id
    # Its folder is that VM's now: it is not a residue of its own, and goes with it.
    assert (found(receipt)["bundle"], found(receipt)["vm"]) == ("stayed", "gone")
    assert placement.host_name in pool.simulation.all_vm_names()

    assert worker.finish(residue.fix(pool.alice, left)).state == "done"
    assert placement.host_name not in pool.simulation.all_vm_names()
    receipt.refresh_from_db()
    assert receipt.verdict == "clean"


def test_what_somebody_removes_on_the_host_counts_as_fixed(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    host_of(pool, vm, faults={"keepname": 1})
    receipt = ended(pool, worker, vm)
    golden = {"name": "golden", "state": "stopped"}
    host_of(pool, vm, faults=None, vms=[golden])
    inventory.refresh(vm.host)  # type: ignore[arg-type]
    assert not Residue.objects.open().exists()

    def clean() -> bool:
        receipt.refresh_from_db()
        return receipt.verdict == "clean"

    worker.until(clean)


def test_what_does_not_carry_our_mark_is_listed_but_never_removed(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    # Another VM lives in the folder of ours, and that is a folder without our mark.
    shared = "/Volumes/CI/shared.pvm"
    (ours,) = host_of(pool, vm)["vms"]
    other = {"id": "{other}", "name": "somebodys", "state": "stopped", "home": shared}
    host_of(pool, vm, vms=[ours | {"home": shared}, other])
    receipt = ended(pool, worker, vm)
    left = Residue.objects.get()
    assert (receipt.verdict, left.kind, left.reference, left.ours) == (
        "residue",
        "vm",
        "{other}",
        False,
    )
    with pytest.raises(Conflict) as refused:
        residue.fix(pool.alice, left)
    assert refused.value.code == "not_ours"
    assert pool.simulation.vm_names(number_of(pool, vm)) == ["somebodys"]


def test_a_folder_without_our_mark_is_never_removed(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    (ours,) = host_of(pool, vm)["vms"]
    host_of(pool, vm, vms=[ours | {"home": "/Volumes/CI/plain.pvm"}], faults={"keepbundle": 1})
    ended(pool, worker, vm)
    left = Residue.objects.get()
    assert (left.kind, left.reference, left.ours) == ("bundle", "/Volumes/CI/plain.pvm", False)
    with pytest.raises(Conflict):
        residue.fix(pool.alice, left)
    assert host_of(pool, vm)["bundles"] == ["/Volumes/CI/plain.pvm"]


def test_a_vm_that_lost_its_mark_meanwhile_is_left_alone(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    host_of(pool, vm, faults={"keepname": 1})
    ended(pool, worker, vm)
    left = Residue.objects.get()
    (kept,) = host_of(pool, vm)["vms"]
    host_of(pool, vm, faults=None, vms=[kept | {"name": "now-somebodys"}])
    job = worker.finish(residue.fix(pool.alice, left))
    assert (job.state, "does not carry our mark" in job.error) == ("failed", True)
    assert pool.simulation.vm_names(number_of(pool, vm)) == ["now-somebodys"]


def test_a_host_that_cannot_measure_stops_no_end_and_the_receipt_says_so(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    (ours,) = host_of(pool, vm)["vms"]
    host_of(pool, vm, vms=[ours | {"home": "relative/path.pvm"}])
    receipt = ended(pool, worker, vm)
    assert receipt.verdict == "incomplete"
    assert found(receipt).items() >= {("name", "gone"), ("vm", "gone"), ("bundle", "unknown")}
    assert detail(receipt, "bundle") == "The host did not say where its files were."


@pytest.mark.parametrize("kept", [0, 1])
def test_a_folder_that_was_not_measured_before_is_never_said_to_be_gone(
    pool: Pool, vm: VirtualMachine, worker: Worker, kept: int
) -> None:
    (ours,) = host_of(pool, vm, faults={"keepbundle": kept})["vms"]
    # As it is noted when the host fails to measure.
    Receipt.objects.update(bundle=ours["home"], problem="It failed.", noted_at=Now(), snapshots=0)
    receipt = ended(pool, worker, vm)
    assert (receipt.verdict, found(receipt)["bundle"]) == (
        ("residue", "stayed") if kept else ("incomplete", "unknown")
    )
    if not kept:
        assert detail(receipt, "bundle") == "It failed."


def test_a_vm_that_its_host_had_lost_gets_a_receipt_that_says_what_is_not_known(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    host_of(pool, vm, vms=[{"name": "golden", "state": "stopped"}])
    receipt = ended(pool, worker, vm)
    assert receipt.verdict == "incomplete"
    assert found(receipt).items() >= {("name", "gone"), ("bundle", "unknown")}
    assert detail(receipt, "bundle").startswith("Nothing was noted before its end")


def test_a_look_that_fails_is_written_down_and_a_person_may_look_again(
    pool: Pool, vm: VirtualMachine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vms.residue.handlers.TRIES", 1)
    host_of(pool, vm, faults={"keepbundle": 1})
    delete = ending.request_delete(pool.bob, vm)
    while reread(vm).state != "deleted":
        running.run_job(delete.pk)
    host_of(pool, vm, faults=None, up=False)
    check = Job.objects.get(kind="placement.check")
    assert worker.finish(check).state == "done"
    receipt = Receipt.objects.get(placement__vm=vm)
    assert (receipt.verdict, found(receipt)["bundle"]) == ("incomplete", "unknown")
    assert "connect" in detail(receipt, "bundle")
    host_of(pool, vm, up=None)
    recording.request_check(receipt.placement, pool.alice)

    def told() -> bool:
        receipt.refresh_from_db()
        return receipt.verdict == "residue"

    worker.until(told)


def test_a_vm_cancelled_before_its_host_was_asked_has_no_receipt(
    pool: Pool, worker: Worker
) -> None:
    vm = pool.ask(name="early")
    ending.request_delete(pool.bob, vm)
    worker.until(lambda: not Job.objects.open().exists())
    assert reread(vm).state == "cancelled"
    assert not Receipt.objects.exists()


def test_free_disk_is_compared_only_where_nothing_else_came_or_went(
    pool: Pool, worker: Worker
) -> None:
    first = made(pool, worker, "first")  # its host downloads the image: not comparable
    receipt = ended(pool, worker, first)
    assert (receipt.disk_delta_gib, found(receipt)["disk"]) == (None, "unknown")
    assert "Not comparable" in detail(receipt, "disk")

    number = number_of(pool, first)
    inventory.refresh(first.host)  # type: ignore[arg-type]
    again = made_on(pool, worker, "again", first.host)
    receipt = ended(pool, worker, again)
    assert (receipt.disk_delta_gib, found(receipt)["disk"]) == (0, "compared")

    last = made_on(pool, worker, "last", first.host)
    listed = pool.simulation.control(number)["vms"]
    pool.simulation.control(number, vms=[*listed, {"name": "golden", "disk": 100}])
    receipt = ended(pool, worker, last)
    assert receipt.disk_delta_gib is None


def made_on(pool: Pool, worker: Worker, name: str, host: Host | None) -> VirtualMachine:
    asked = pool.ask(pool.alice, name=name, host=host)
    worker.finish(asked.create_job)  # type: ignore[arg-type]
    return reread(asked)


def test_snapshots_share_the_fate_of_their_folder(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    from vms.verbs import snapshots

    worker.finish(snapshots.take(pool.bob, vm))
    host_of(pool, vm, faults={"keepbundle": 1})
    receipt = ended(pool, worker, reread(vm))
    assert found(receipt)["snapshots"] == "stayed"
    assert detail(receipt, "snapshots").startswith("It had 1")


def test_a_renamed_vm_keeps_its_mark(pool: Pool, vm: VirtualMachine, worker: Worker) -> None:
    worker.finish(rename(pool.bob, vm, name="other"))
    receipt = ended(pool, worker, reread(vm))
    assert receipt.verdict == "clean", receipt.checks


def test_only_who_may_manage_all_vms_fixes_and_others_see_their_own(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    host_of(pool, vm, faults={"keepbundle": 1})
    ended(pool, worker, vm)
    left = Residue.objects.get()
    assert list(Residue.objects.all().visible_to(pool.bob)) == [left]
    for verb in (residue.fix, residue.check):
        with pytest.raises(Forbidden):
            verb(pool.bob, left)
    VirtualMachine.objects.update(requested_by=pool.alice.user)
    assert not Residue.objects.all().visible_to(pool.bob).exists()


def test_residues_of_a_removed_host_are_out_of_reach(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    host_of(pool, vm, faults={"keepbundle": 1})
    ended(pool, worker, vm)
    removal.remove(pool.alice, vm.host, forget_vms=False)  # type: ignore[arg-type]
    left = Residue.objects.get()
    assert not Residue.objects.open().exists()
    with pytest.raises(Conflict):
        residue.fix(pool.alice, left)


def test_a_vm_that_is_forgotten_with_its_host_gets_a_receipt_that_claims_nothing(
    pool: Pool, vm: VirtualMachine, worker: Worker
) -> None:
    removal.remove(pool.alice, vm.host, forget_vms=True)  # type: ignore[arg-type]
    worker.until(lambda: Receipt.objects.filter(checked_at__isnull=False).exists())
    receipt = Receipt.objects.get()
    assert receipt.verdict == "incomplete"
    assert set(found(receipt).values()) == {"unknown"}
