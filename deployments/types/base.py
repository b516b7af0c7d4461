"""What a type of deployables is, and what its steps are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from deployments.planning import Container, Operation, Step
from deployments.prepared import Value
from deployments.schemas import Problem, Schema

VM, HOST = "vm", "host"

# The ranges of the rules, section 2.2. Destroying mirrors creating.
(SNAPSHOT_FIRST, STOP_ARTIFACTS, STOP, UNDEPLOY, DESTROY_RESOURCES) = (1, 10, 20, 30, 40)
(ANY, CREATE_RESOURCES, DEPLOY, START, START_ARTIFACTS, SNAPSHOT_LAST, POST_FLIGHT) = (
    *(50, 60, 70, 80, 90, 99, 100),
)


def reference(path: str) -> dict[str, str]:
    """Return the container of a path as an action names it: `{"vm": id}` or `{"host": id}`."""
    kind, _, pk = path.partition(":")
    return {kind: pk}


@dataclass(frozen=True, slots=True)
class Change:
    """What a type contributes steps for: one deployed that is to be made, changed or removed.

    `previous` and `value` are there as the operation has them. `created_vm` is the id of the VM
    that the deployed made earlier.
    """

    deployed: str
    container: Container
    operation: Operation
    previous: Value | None
    value: Value | None
    created_vm: str = ""
    forced: bool = False

    @property
    def new(self) -> Mapping[str, Any]:
        return self.value.properties if self.value else {}

    @property
    def old(self) -> Mapping[str, Any]:
        return self.previous.properties if self.previous else {}

    @property
    def path(self) -> str:
        return self.container.place[1]

    def changes(self, *names: str) -> bool:
        """Return whether one of these properties differs."""
        return any(self.old.get(name) != self.new.get(name) for name in names)

    def step(self, order: int, text: str, kind: str, **action: Any) -> Step:
        """Return a step on the container of this deployed, unless `container` says otherwise."""
        given = {name: value for name, value in action.items() if value is not None}
        return Step(order, text, action={"kind": kind, "container": reference(self.path), **given})


Contributor = Callable[[Change], Iterable[Step]]


def nothing(change: Change) -> Iterable[Step]:
    """Contribute no step."""
    return ()


@dataclass(frozen=True)
class DeployableType:
    """A type: what it lands on, its properties, and its steps for each operation.

    `artifact` says that it carries a file, which `look` refuses if it is not of this type. `check`
    finds what single properties do not show.
    """

    name: str
    label: str
    on: frozenset[str]
    properties: Schema
    create: Contributor
    modify: Contributor
    destroy: Contributor = nothing
    artifact: bool = False
    look: Callable[[BinaryIO], object] | None = None
    check: Callable[[Mapping[str, Any], tuple[str | int, ...]], list[Problem]] | None = None


def contribute(kind: DeployableType, change: Change) -> tuple[Step, ...]:
    """Return the steps of a change, each delta with a checkpoint.

    Without a mark the last step, in the order in which they run, is the checkpoint. In a change
    that first removes, the removal is one of its own: it counts as destroyed in between.
    """
    contributors = {
        Operation.CREATE: kind.create,
        Operation.MODIFY: kind.modify,
        Operation.DESTROY: kind.destroy,
    }
    if change.operation not in contributors:
        return ()
    steps = sorted(contributors[change.operation](change), key=lambda step: step.order)
    if steps and not (steps[-1].checkpoint and "checkpoint" not in steps[-1].action):
        steps[-1] = replace(steps[-1], checkpoint=True)
    return tuple(steps)


def reached(operation: Operation, step: Step) -> Step:
    """Mark a step in the middle of a change, after which the deployed counts as by `operation`."""
    return replace(step, checkpoint=True, action={**step.action, "checkpoint": operation.value})


def removed(step: Step) -> Step:
    """Mark a step after which the deployed is gone, though the change goes on."""
    return reached(Operation.DESTROY, step)
