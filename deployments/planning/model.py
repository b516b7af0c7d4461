"""What a plan is made from and made of. All values are frozen; nothing here decides anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class PlanError(ValueError):
    """No plan can be made; the text is one sentence that says what to change."""


class Operation(Enum):
    """What happens to a deployed, or to the whole application."""

    CREATE = "CREATE"
    MODIFY = "MODIFY"
    DESTROY = "DESTROY"
    NOOP = "NOOP"  # of a delta only


VERBS = {
    Operation.CREATE: "Deploy",
    Operation.MODIFY: "Update",
    Operation.DESTROY: "Undeploy",
}


@dataclass(frozen=True, slots=True)
class Container:
    """A VM or host that something is deployed to.

    `path` tells containers of one name apart; it is the name when not given. `balancer` names the
    load balancer that manages it, `host` the machine that it runs on.
    """

    name: str
    path: str = ""
    group: int | None = None
    sub_group: int | None = None
    sub_sub_group: int | None = None
    tags: frozenset[str] = frozenset()
    balancer: str | None = None
    host: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, str]:
        """Return what containers are sorted by: name by code points, then path."""
        return (self.name, self.path or self.name)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `number` counts from 1 in the finished plan; 0 before.

    `deployeds` are what it is done for: pairs of deployed and path of its container. `action` is
    carried through untouched: what the engine runs, JSON with a key `kind`. A `checkpoint` is the
    step after which the change of its deployeds counts as made.
    """

    order: int
    text: str
    number: int = 0
    deployeds: tuple[tuple[str, str], ...] = ()
    action: Mapping[str, Any] = field(default_factory=dict, hash=False)
    checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """The difference for one deployed, with the steps that it contributes."""

    deployed: str
    container: Container
    operation: Operation
    package: str | None = None
    tags: frozenset[str] = frozenset()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Plan-scope steps: once in every leaf with a changed delta on one of the containers.

    `containers` are paths. With `asked_by`, pairs of deployed and path, only changes of these ask.
    """

    containers: tuple[str, ...]
    steps: tuple[Step, ...]
    asked_by: frozenset[tuple[str, str]] | None = None


class Kind(Enum):
    """What a block does with what it holds."""

    INTERLEAVED = "interleaved"
    SERIAL = "serial"
    PARALLEL = "parallel"


@dataclass(frozen=True, slots=True)
class Block:
    """A leaf, which holds deltas and later their steps, or a composite, which holds blocks.

    `made_by` and `key` say which orchestrator made it and from what (a container, a group …).
    Raises PlanError when it would hold both.
    """

    kind: Kind
    label: str
    children: tuple[Block, ...] = ()
    deltas: tuple[Delta, ...] = ()
    steps: tuple[Step, ...] = ()
    made_by: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if self.is_leaf and self.children:
            raise PlanError(
                f"The interleaved block “{self.label}” holds blocks; make it serial or parallel."
            )
        if not self.is_leaf and (self.deltas or self.steps):
            raise PlanError(
                f"The {self.kind.value} block “{self.label}” holds deltas or steps;"
                " put them in a leaf of it."
            )

    @property
    def is_leaf(self) -> bool:
        return self.kind is Kind.INTERLEAVED

    def leaves(self) -> Iterable[Block]:
        """Yield the leaves, in listing order."""
        if self.is_leaf:
            yield self
        for child in self.children:
            yield from child.leaves()

    def depth(self) -> int:
        """Return how many blocks lie above each other; 1 for a leaf."""
        return 1 + max((child.depth() for child in self.children), default=0)


def leaf(label: str, deltas: Iterable[Delta], key: str = "") -> Block:
    """Return a block that holds deltas."""
    return Block(Kind.INTERLEAVED, label, deltas=tuple(deltas), key=key)


def serial(label: str, children: Iterable[Block], key: str = "") -> Block:
    """Return a block whose children are done one after the other."""
    return Block(Kind.SERIAL, label, children=tuple(children), key=key)


def parallel(label: str, children: Iterable[Block], key: str = "") -> Block:
    """Return a block whose children are done all at once."""
    return Block(Kind.PARALLEL, label, children=tuple(children), key=key)


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a plan is computed from.

    `deltas` are in delta order, which decides ties. `members` are those of a composite package,
    flattened, else None; `dependencies` tell what an application needs, in declared order, and
    `root` is the application that was chosen. `options` are parameters of orchestrators.
    """

    operation: Operation
    title: str
    environment: str
    deltas: tuple[Delta, ...]
    orchestrators: tuple[str, ...] = ()
    members: tuple[str, ...] | None = None
    dependencies: Mapping[str, tuple[str, ...]] | None = None
    root: str | None = None
    rules: tuple[Rule, ...] = ()
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    optimize: bool = True
    split: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verb(self) -> str:
        return VERBS[self.operation]

    @property
    def label(self) -> str:
        return f"{self.verb} {self.title} on {self.environment}"

    @property
    def reversed(self) -> bool:
        """Return whether blocks run in reverse: the operation of the whole decides."""
        return self.operation is Operation.DESTROY


@dataclass(frozen=True, slots=True)
class Context:
    """What an orchestrator may look at besides its leaf.

    `own` are the parameters in the braces of its name, `parameters` those and the plan's options.
    """

    spec: Spec
    name: str
    own: Mapping[str, Any]
    parameters: Mapping[str, Any]


Orchestrator = Callable[[Block, Context], Block]
