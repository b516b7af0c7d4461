"""What is known about a deployment before it runs: deltas, plan, warnings, fingerprint.

`Prepared` goes into a task as JSON (`as_json`), from which its changes are recorded
(`deployments.deployed.record`) and taken back (`deployments.specs.prepare_rollback`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from deployments.planning import Block, Operation, Spec


class Reached(NamedTuple):
    """A checkpoint that was passed, of the step's `deployeds` whose step is a checkpoint.

    `operation` is the step's `action["checkpoint"]`: what the deployed counts as from then on
    (`DESTROY` after the first half of a change that removes and puts anew); empty stands for the
    operation of its delta.
    """

    deployed: str
    container: str  # path: vm:<id>, host:<id>
    operation: str = ""


class Difference(NamedTuple):
    """One property that differs; a side is None where it is absent. Secrets are references."""

    property: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Value:
    """A deployable as it is, or shall be, on one container: with its properties resolved.

    A secret stands in them as `{{secret:<dictionary id>/<key>}}`; `secrets` has the revision of
    each, so that a changed secret is a change.
    """

    type: str
    properties: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    artifact: str = ""  # SHA-256
    file_name: str = ""
    secrets: Mapping[str, int] = field(default_factory=dict)
    member: str = ""  # the application of a composite's member that it belongs to
    position: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "properties": dict(self.properties),
            "tags": list(self.tags),
            "artifact": self.artifact,
            "file_name": self.file_name,
            "secrets": dict(self.secrets),
            "member": self.member,
            "position": self.position,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Value:
        return cls(**{**data, "tags": tuple(data["tags"])})


@dataclass(frozen=True, slots=True)
class DeltaView:
    """The difference for one deployed, with what was and what shall be."""

    application: str
    deployed: str
    container: str  # path
    container_name: str
    operation: Operation
    previous: Value | None
    value: Value | None
    created_vm: str = ""  # id of the VM that the deployed made earlier
    forced: bool = False  # nothing differs, but it is undone and done again

    @property
    def key(self) -> tuple[str, str]:
        return (self.deployed, self.container)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Return what differs, by property; `checksum`, `type` and `tags` count, too."""
        before, after = _flat(self.previous), _flat(self.value)
        return tuple(
            Difference(name, before.get(name), after.get(name))
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "application": self.application,
            "deployed": self.deployed,
            "container": self.container,
            "container_name": self.container_name,
            "operation": self.operation.value,
            "previous": self.previous and self.previous.as_json(),
            "value": self.value and self.value.as_json(),
            "created_vm": self.created_vm,
            "forced": self.forced,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeltaView:
        values = {
            name: Value.from_json(data[name]) if data[name] else None
            for name in ("previous", "value")
        }
        return cls(**{**data, **values, "operation": Operation(data["operation"])})


def _flat(value: Value | None) -> dict[str, Any]:
    if value is None:
        return {}
    return {
        **{name: one for name, one in value.properties.items() if one not in (None, "", [], {})},
        "type": value.type,
        **({"tags": sorted(value.tags)} if value.tags else {}),
        **({"checksum": value.artifact} if value.artifact else {}),
        **{f"secret {name}": f"revision {number}" for name, number in value.secrets.items()},
    }


@dataclass(frozen=True, slots=True)
class Part:
    """One application of a deployment: the chosen one, and those that it needs."""

    application: str  # its name
    application_id: str
    operation: Operation
    package: str | None  # id of the version that shall be there; None: goes
    previous: str | None  # id of the version that is there
    title: str  # with version
    as_dependency: bool = False
    orchestrators: tuple[str, ...] = ()  # to be recorded with it
    previous_orchestrators: tuple[str, ...] = ()  # recorded with what is there

    def as_json(self) -> dict[str, Any]:
        return {
            "application": self.application,
            "application_id": self.application_id,
            "operation": self.operation.value,
            "package": self.package,
            "previous": self.previous,
            "title": self.title,
            "as_dependency": self.as_dependency,
            "orchestrators": list(self.orchestrators),
            "previous_orchestrators": list(self.previous_orchestrators),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        return cls(
            **{
                **data,
                "operation": Operation(data["operation"]),
                "orchestrators": tuple(data["orchestrators"]),
                "previous_orchestrators": tuple(data["previous_orchestrators"]),
            }
        )


class Warning(NamedTuple):
    """Something worth a look before starting. `code` is for machines."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A deployment that could start: what it changes, its plan, and what it depends on.

    `kind`: initial, update, undeploy, rollback. `plan` is None when nothing is to be run; what was
    asked for is registered all the same. `policy` is that of the version (of the one that goes, on
    undeploy), merged over the environment's (`deployments.policies`).
    """

    kind: str
    environment_id: UUID
    environment: str
    title: str
    operation: Operation
    spec: Spec
    plan: Block | None
    parts: tuple[Part, ...]
    deltas: tuple[DeltaView, ...]
    mapping: Mapping[str, list[str]]  # deployable → paths of its containers, all applications
    orchestrators: tuple[str, ...]
    orchestrators_from: str  # deployment, package, dictionary, environment's record, default
    options: Mapping[str, Any]
    policy: Mapping[str, Any]
    warnings: tuple[Warning, ...]
    fingerprint: str

    def as_json(self) -> dict[str, Any]:
        """Return what recording and rolling back need; the plan is stored by the task itself."""
        return {
            "kind": self.kind,
            "environment": str(self.environment_id),
            "title": self.title,
            "operation": self.operation.value,
            "parts": [part.as_json() for part in self.parts],
            "deltas": [delta.as_json() for delta in self.deltas],
            "mapping": {name: list(paths) for name, paths in self.mapping.items()},
            "orchestrators": list(self.orchestrators),
            "options": dict(self.options),
            "policy": dict(self.policy),
            "fingerprint": self.fingerprint,
        }
