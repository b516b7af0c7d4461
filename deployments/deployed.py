"""“Register deployeds”: what a deployment changed goes into the environment's record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from accounts.actors import SYSTEM
from accounts.audit import audit
from deployments.environments import announce
from deployments.models import Deployed, DeployedApplication, Environment, Package
from deployments.planning import Operation
from deployments.prepared import DeltaView, Part, Reached, Value
from deployments.specs import last_of
from hosts.models import Host
from vms.models import VirtualMachine

Created = Mapping[tuple[str, str], str]


def record(
    prepared: Mapping[str, Any],
    reached: Iterable[Reached] | None,
    created: Created | None = None,
) -> None:
    """Write what a deployment did. `prepared` is the `as_json()` of what was planned.

    `reached` None: every step is done or skipped, and all of it counts. Else the checkpoints that
    were passed, in order: only those deployeds are written (partial), which keeps the books of a
    deployment that was cancelled. `created` are the ids of VMs that steps `vm.create` made, by
    (deployed, path of its container).

    Runs in the caller's transaction; doing it again changes nothing.
    """
    environment = Environment.objects.select_for_update().get(pk=prepared["environment"])
    done = None if reached is None else last_of(reached)
    deltas = [DeltaView.from_json(one) for one in prepared["deltas"]]
    told = []
    # What goes makes room for what comes: a name is taken once on a container.
    parts = [Part.from_json(one) for one in prepared["parts"]]
    for part in sorted(parts, key=lambda part: part.package is not None):
        own = [one for one in deltas if one.application == part.application]
        if _record(environment, part, own, done, created or {}):
            told.append(part.title)
    if told:
        data = {"applications": told, "partial": done is not None}
        audit(SYSTEM, "environment.recorded", environment.subject, environment.name, data=data)
        announce(environment)


def _record(
    environment: Environment,
    part: Part,
    deltas: list[DeltaView],
    done: Mapping[tuple[str, str], str] | None,
    created: Created,
) -> bool:
    """Write one application; return whether there was anything to write."""
    if done is not None:
        deltas = [one for one in deltas if one.key in done and one.operation is not Operation.NOOP]
        if not deltas:
            return False
    row = DeployedApplication.objects.filter(
        environment=environment, application__pk=part.application_id
    ).first()
    if part.package is None:
        if row is None:
            return False
        _write(environment, row, deltas, done, created)
        if done is None or not row.deployeds.exists():
            row.delete()
        else:
            DeployedApplication.objects.filter(pk=row.pk).update(partial=True)
        return True
    package = Package.objects.get(pk=part.package)
    values = {
        "package": package,
        "orchestrators": list(part.orchestrators),
        "as_dependency": part.as_dependency,
        "partial": done is not None,
    }
    row, _ = DeployedApplication.objects.update_or_create(
        environment=environment, application=package.application, defaults=values
    )
    _write(environment, row, deltas, done, created)
    return True


def _write(
    environment: Environment,
    row: DeployedApplication,
    deltas: list[DeltaView],
    done: Mapping[tuple[str, str], str] | None,
    created: Created,
) -> None:
    for delta in deltas:
        passed = done.get(delta.key, "") if done is not None else ""
        value = None if passed == Operation.DESTROY.value else delta.value
        there = Deployed.objects.filter(
            environment=environment, container=delta.container, name=delta.deployed
        )
        if value is None:
            there.filter(deployed_application=row).delete()
            continue
        there.update_or_create(
            environment=environment,
            container=delta.container,
            name=delta.deployed,
            defaults=_columns(row, delta, value, created),
        )


def _columns(
    row: DeployedApplication, delta: DeltaView, value: Value, created: Created
) -> dict[str, Any]:
    kind, _, pk = delta.container.partition(":")
    vm = VirtualMachine.objects.filter(pk=pk).first() if kind == "vm" else None
    host = Host.objects.filter(pk=pk).first() if kind == "host" else None
    made = created.get(delta.key) or delta.created_vm
    return {
        "deployed_application": row,
        "container_name": delta.container_name,
        "vm": vm,
        "host": host,
        "created_vm": VirtualMachine.objects.filter(pk=made).first() if made else None,
        "position": value.position,
        "value": value.as_json(),
    }
