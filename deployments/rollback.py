"""What takes a deployment back, as far as it got."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deployments import environments, packages, policies, selection
from deployments.deltas import Wanted
from deployments.models import Application, Package
from deployments.planning import Operation
from deployments.prepared import DeltaView, Part, Prepared, Reached
from deployments.reverting import Revert, lost
from deployments.whole import Whole

if TYPE_CHECKING:
    from accounts.actors import Actor

# How a task is taken back, and the option of its plan that says so.
BY, STEPS, SNAPSHOTS = "rollback_by", "steps", "snapshots"


def prepare_rollback(
    *,
    actor: Actor,
    prepared: Mapping[str, Any],
    reached: Iterable[Reached] | None,
    created: Mapping[tuple[str, str], str] | None = None,
    reverts: Sequence[Revert] | None = None,
) -> Prepared:
    """Return what takes back a deployment: `prepared` is its `as_json()`.

    `reached` are the checkpoints that it passed, in order; None: all. `created` are the ids of VMs
    that its steps `vm.create` made. With `reverts` VMs go back to those snapshots instead of by
    inverse steps, whatever was reached there. Record the original first (`deployed.record`),
    whatever it reached: a rollback changes the record only as far as it gets itself.
    """
    actor.require("deployments.view")
    environment = environments.fresh(prepared["environment"])
    done = None if reached is None else last_of(reached)
    made = created or {}
    original = Operation(prepared["operation"])
    by_name: dict[str, list[DeltaView]] = {}
    for data in prepared["deltas"]:
        one = inverse(DeltaView.from_json(data), done, made)
        if one is not None:
            by_name.setdefault(one.application, []).append(one)
    records = selection.records_of(environment)
    wanted = []
    for data in prepared["parts"]:
        part = Part.from_json(data)
        target = _package(part.previous)
        record = records.get(part.application.lower())
        application = Application.objects.get(pk=part.application_id)
        wanted.append(
            Wanted(
                application,
                target,
                record,
                as_dependency=data is not prepared["parts"][0],
                orchestrators=part.previous_orchestrators,
                members=packages.flattened(target)[0] if target else [],
                deltas=by_name.get(part.application, []),
            )
        )
    operation = {
        Operation.CREATE: Operation.DESTROY,
        Operation.MODIFY: Operation.MODIFY,
        Operation.DESTROY: Operation.CREATE,
    }[original]
    root = Part.from_json(prepared["parts"][0])
    taking_part = {}
    for data in prepared["parts"]:
        part = Part.from_json(data)
        if shown := _package(part.package) or _package(part.previous):
            taking_part[part.application.lower()] = shown
    sites = environments.sites(environment)
    options = {**prepared["options"], "force_redeploy": False}
    options.pop(BY, None)
    if reverts is not None:
        options[BY] = SNAPSHOTS
    whole = Whole(
        environment,
        wanted,
        taking_part,
        sites,
        operation,
        prepared["orchestrators"] if reverts is None else (),
        options,
        reverts,
    )
    shown = _package(root.previous) or _package(root.package)
    return whole.prepared(
        kind="rollback",
        orchestrators_from="record",
        mapping={},
        policy=policies.merged(shown.policy if shown else {}, environment.policy),
        notes=() if reverts is None else (lost(reverts),),
        actor=actor,
    )


def _package(pk: str | None) -> Package | None:
    return Package.objects.whole().filter(pk=pk).first() if pk else None


def last_of(reached: Iterable[Reached]) -> dict[tuple[str, str], str]:
    """Return the last checkpoint of each deployed; empty text for the one of its operation."""
    return {(one.deployed, one.container): one.operation for one in reached}


def inverse(
    delta: DeltaView, done: Mapping[tuple[str, str], str] | None, made: Mapping[Any, str]
) -> DeltaView | None:
    """Return the change that takes a delta back, as far as it was made; None: nothing of it was.

    What was not reached keeps its place with nothing to do.
    """
    operation = delta.operation
    vm = made.get(delta.key, delta.created_vm)
    if done is not None:
        if delta.key not in done and operation is not Operation.NOOP:
            if operation is Operation.CREATE:
                return None
            return replace(delta, operation=Operation.NOOP, value=delta.previous, forced=False)
        passed = done.get(delta.key, "")
        if operation is Operation.MODIFY and passed == Operation.DESTROY.value:
            # Only its first half was done: it is gone, and has to come again.
            return replace(
                delta,
                operation=Operation.CREATE,
                previous=None,
                value=delta.previous,
                created_vm="",
                forced=False,
            )
    match operation:
        case Operation.CREATE:
            return replace(
                delta,
                operation=Operation.DESTROY,
                previous=delta.value,
                value=None,
                created_vm=vm,
            )
        case Operation.DESTROY:
            return replace(
                delta,
                operation=Operation.CREATE,
                previous=None,
                value=delta.previous,
                created_vm="",
            )
        case _:
            return replace(delta, previous=delta.value, value=delta.previous, created_vm=vm)
