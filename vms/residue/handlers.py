"""The jobs that look at what a VM left, and that remove it."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from hosts.calls import HostHandler, driver_of
from hosts.drivers.base import ErrorKind, HostError
from jobs.outcomes import Again, Done, Fail, Outcome
from orchestrator.db.clock import database_now
from vms.handling import again_later, looks
from vms.marks import mark_of
from vms.models import Receipt, Residue
from vms.residue import checking, recording

if TYPE_CHECKING:
    from hosts.drivers.base import Driver
    from jobs.claims import Claim
    from jobs.models import Job

TRIES = 6  # about a minute; then the receipt says what is not known, and a person may ask again
AT_REST = {"stopped", "suspended"}
NO_LIST = "The host has shown no list yet that counts."


def _receipt(**which: object) -> Receipt:
    """Return a receipt with what the jobs need of it."""
    rows = Receipt.objects.select_related("placement__host", "placement__vm")
    return rows.get(**which)


def _look(claim: Claim, receipt: Receipt) -> checking.Findings | Again:
    """Return what is left, or when to look again. Never raises `HostError`."""
    host = receipt.placement.host
    if host.removed_at:
        return checking.nothing_known(f"{host.name} was removed.")
    last = int(claim.job.payload.get("tries", 0)) >= TRIES
    since = datetime.fromisoformat(claim.job.payload["since"])
    try:
        findings = checking.look(receipt, since, last=last)
    except HostError as error:
        if not last and not error.permanent:
            return again_later(claim, error, host)
        return checking.nothing_known(error.message)
    if findings is not None:
        return findings
    if last:
        return checking.nothing_known(NO_LIST)
    tries = int(claim.job.payload.get("tries", 0)) + 1
    return Again(seconds=min(2.0**tries, 30.0), payload={"tries": tries}, message=NO_LIST)


class CheckHandler(HostHandler):
    """`placement.check`: writes the receipt of a placement that ended."""

    first = "look"
    calls = frozenset({"look"})

    def step_look(self, claim: Claim) -> Outcome:
        placement_id = claim.job.subject_id
        if not Receipt.objects.filter(placement__pk=placement_id).exists():
            return Done(message="Nothing was noted before it was made, so nothing is compared.")
        receipt = _receipt(placement__pk=placement_id)
        found = _look(claim, receipt)
        if isinstance(found, Again):
            return found
        return Done(
            message=_sentence(found),
            result={"left": [one.detail for one in found.left]},
            effect=partial(recording.record, receipt.pk, found),
        )


def _sentence(findings: checking.Findings) -> str:
    if findings.left:
        return f"Left on the host: {' '.join(one.detail for one in findings.left)}"
    return "Nothing is left." if findings.is_clean else "Nothing was seen to be left."


class FixHandler(HostHandler):
    """`residue.fix`: removes one thing that carries our mark, and looks whether it is gone."""

    first = "send"
    calls = frozenset({"send", "look"})
    lost = "repeat"

    def _residue(self, job: Job) -> Residue:
        return Residue.objects.get(pk=job.payload["residue"])

    def step_send(self, claim: Claim) -> Outcome:
        residue = self._residue(claim.job)
        receipt = _receipt(pk=residue.receipt_id)
        if receipt.placement.host.removed_at:
            return Fail(f"{receipt.placement.host.name} was removed.")
        claim.note("Removing it.", progress=20)
        try:
            with driver_of(receipt.placement.host) as driver, claim.sending():
                refusal = _remove(driver, residue, receipt)
        except HostError as error:
            if error.kind != ErrorKind.NOT_FOUND:  # what is not there need not be removed
                raise
            refusal = ""
        if refusal:
            return Fail(refusal)
        since = database_now().isoformat()
        return Again(
            step="look",
            payload={"tries": 0, "looks": 0, "since": since},
            progress=60,
            message="Removed; looking whether it is gone.",
        )

    def step_look(self, claim: Claim) -> Outcome:
        residue = self._residue(claim.job)
        receipt = _receipt(pk=residue.receipt_id)
        found = _look(claim, receipt)
        if isinstance(found, Again):
            return found
        effect = partial(recording.record, receipt.pk, found)
        if residue.kind not in found.complete:
            return Fail("Removed, but the host does not show whether it is gone.", effect=effect)
        if not any(
            (one.kind, one.reference) == (residue.kind, residue.reference) for one in found.left
        ):
            return Done(message="It is gone.", effect=effect)
        if int(claim.job.payload.get("looks", 0)) < TRIES:
            pause, counted = looks(claim, 0.5)
            return Again(seconds=pause, payload={**counted, "since": database_now().isoformat()})
        return Fail(
            f"It was removed, and is still there. Look at the host: {residue.detail}", effect=effect
        )


def _remove(driver: Driver, residue: Residue, receipt: Receipt) -> str:
    """Remove it; return why not. What it is called now decides, not what was found at the end."""
    if residue.kind != Residue.Kind.BUNDLE:
        return _delete(driver, residue.reference, receipt)
    users = [vm for vm in driver.list_vms() if vm.home == residue.reference]
    if users:  # an earlier try registered it, or somebody did
        return _delete(driver, users[0].id, receipt)
    name = receipt.placement.host_name
    registered = driver.register(residue.reference, name, False, receipt.bundle_owner)
    return _delete(driver, registered.id, receipt)


def _delete(driver: Driver, vm_id: str, receipt: Receipt) -> str:
    vm = driver.read_vm(vm_id)
    if mark_of(vm.name) != receipt.placement.mark:
        return f"The VM {vm.name} does not carry our mark, so it is left alone."
    if vm.state not in AT_REST:
        driver.stop(vm_id, force=True)
    driver.delete(vm_id, force=True)
    return ""
