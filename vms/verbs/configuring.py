"""Another configuration: options of the VM, shared folders, devices, and a size along with them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import transaction

from hosts.calls import driver_of
from hosts.drivers.base import Changes, Configuration, ErrorKind, HostError, SharedFolder
from jobs.outcomes import Again, Done, Fail, Outcome
from orchestrator.refusals import Invalid
from vms import configuration
from vms.configuration import Wish
from vms.lifecycle import announce
from vms.models import VirtualMachine
from vms.states import AT_REST
from vms.verbs.asking import ask_in_place
from vms.verbs.resizing import STOPPED, ResizeHandler, charge_growth, checked_size, size_of

if TYPE_CHECKING:
    from accounts.actors import Actor
    from jobs.claims import Claim
    from jobs.models import Job
    from vms.models import Placement

NO_FOLDERS = "The host took the shared folders, and does not show them so. See its log."


def configure(
    actor: Actor,
    vm: VirtualMachine,
    wish: Wish,
    *,
    cpus: int | None = None,
    memory_mib: int | None = None,
    disk_gib: int | None = None,
) -> Job:
    """Change what `wish` says of a VM, and its size as `resize` does.

    Some options need it stopped, as a size does; the others are set while it runs, too. What is
    not only taken away needs the grant to hold still. What a host did before it said no to the rest
    stays. Raises `Invalid`, `Forbidden`, also for shared folders (see `vms.configuration`), or
    `Conflict` for another state.
    """
    configuration.check(wish)
    size = checked_size(vm, cpus, memory_mib, disk_gib)
    before = size_of(vm)
    resizes = size != before
    if not wish and not resizes:
        raise Invalid("There is nothing to change. Say what.")
    with transaction.atomic():
        folders = configuration.wanted_folders(actor, vm, wish)
        known = vm.configuration
        wanted: dict[str, dict[str, Any]] = {
            "options": wish.options,
            "folders": folders,
            "devices": wish.devices,
        }
        told_before: dict[str, Any] = {
            kind: {name: known.get(kind, {}).get(name) for name in values}
            for kind, values in wanted.items()
            if values
        }
        told_after: dict[str, Any] = {kind: values for kind, values in wanted.items() if values}
        if wish.actions:
            told_after["actions"] = wish.actions
        if resizes:
            charge_growth(vm, size)
            told_before |= before
            told_after |= size
        return ask_in_place(
            actor,
            vm,
            "configure",
            STOPPED if resizes or wish.needs_stopped else AT_REST,
            grant=resizes or bool(wish.options or wish.actions) or _gives(folders, wish.devices),
            payload={**wanted, "actions": wish.actions, "wanted": size if resizes else None},
            told={"before": told_before, "after": told_after},
        )


def _gives(folders: dict[str, dict[str, Any] | None], devices: dict[str, bool]) -> bool:
    return any(folder and folder["enabled"] for folder in folders.values()) or any(devices.values())


class ConfigureHandler(ResizeHandler):
    """`vm.configure`: the size first, then the rest; what the host has already is not sent again.

    A repeated one looks first. Actions may be sent twice: to do so changes nothing.
    """

    states = AT_REST
    first = "begin"
    calls = frozenset({"send", "settle", "apply", "note"})

    def step_begin(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        return Again(step="send" if claim.job.payload["wanted"] else "apply")

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        outcome = super().step_send(claim, vm, placement)
        if isinstance(outcome, Done):
            return Again(step="apply", progress=50, message=outcome.message, effect=outcome.effect)
        return outcome

    def step_apply(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        payload = claim.job.payload
        try:
            with driver_of(placement.host) as driver:
                seen = driver.configuration(placement.host_vm_id)
                missing = _missing(seen, payload, first=not payload.get("applied"))
                if not payload.get("applied") and missing:
                    with claim.sending(progress=60):
                        driver.change(placement.host_vm_id, missing)
                    return Again(payload={"applied": True})  # look at what came of it
        except HostError as error:
            if error.permanent and error.kind != ErrorKind.NOT_FOUND:
                return Again(step="note", payload={"error": error.message})
            raise
        effect = partial(_keep, vm, seen, payload["options"])
        if missing.added_folders or missing.changed_folders or missing.removed_folders:
            return Fail(NO_FOLDERS, effect=effect)
        others = ", ".join(f"{name} {seen.options[name]}" for name in missing.options)
        return Done(
            message=f"Done. Its host shows for now: {others}." if others else "Done.",
            result={name: payload[name] for name in ("options", "folders", "devices")},
            effect=effect,
        )

    def step_note(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        """After a clear no: what the host did before it said so stays, and is shown."""
        with driver_of(placement.host) as driver:
            seen = driver.configuration(placement.host_vm_id)
        return Fail(claim.job.payload["error"], effect=partial(_keep, vm, seen, {}))


def _missing(seen: Configuration, payload: dict[str, Any], *, first: bool) -> Changes:
    """Return what of the job's wish the host does not show; what it never shows, only `first`."""
    folders: dict[str, dict[str, Any] | None] = payload["folders"]
    whole = {name: SharedFolder(**folder) for name, folder in folders.items() if folder}
    return Changes(
        options={
            name: value
            for name, value in payload["options"].items()
            if seen.options.get(name, None if first else value) != value
        },
        added_folders={name: one for name, one in whole.items() if name not in seen.folders},
        changed_folders={
            name: one
            for name, one in whole.items()
            if name in seen.folders and not _is_as(seen.folders[name], one)
        },
        removed_folders=tuple(
            name for name, folder in folders.items() if folder is None and name in seen.folders
        ),
        devices={
            name: connected
            for name, connected in payload["devices"].items()
            if seen.devices.get(name) is not connected
        },
        actions=tuple(payload["actions"]) if first else (),
    )


def _is_as(seen: SharedFolder, wanted: SharedFolder) -> bool:
    """Return whether a folder is as wanted; hosts do not always show its description."""
    return seen == replace(wanted, description=seen.description) and (
        seen.description in ("", wanted.description)
    )


def _keep(vm: VirtualMachine, seen: Configuration, sent: dict[str, str]) -> None:
    kept = configuration.stored(seen, sent)
    VirtualMachine.objects.filter(pk=vm.pk).update(configuration=kept)
    announce(vm)
