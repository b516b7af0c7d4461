"""The blocks of a plan in memory: what may run next, and what states follow from children's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models.functions import Now

from deployments.models.tasks import Block
from deployments.states import BlockState, derive
from orchestrator.db.bulk import write_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OVER = (BlockState.DONE, BlockState.FAILED, BlockState.ABORTED, BlockState.STOPPED)


@dataclass
class Node:
    """A block, with the children that it has."""

    pk: UUID
    parent_id: UUID | None
    path: str
    kind: str
    state: str
    tolerated: bool
    steps_done: int
    key: str = ""
    children: list[Node] = field(default_factory=list)
    parent: Node | None = None
    changed: bool = False

    @property
    def is_leaf(self) -> bool:
        return self.kind == Block.Kind.INTERLEAVED

    @property
    def counts_as(self) -> str:
        """Return the state that its parent sees: a failure that is tolerated is over."""
        over = self.tolerated and self.state in (BlockState.FAILED, BlockState.ABORTED)
        return BlockState.DONE if over else self.state

    @property
    def stands_for(self) -> str:
        """Return what a failure of it is one of: its container, if it has one, else itself."""
        return self.key or str(self.pk)

    def set(self, state: str, steps_done: int) -> None:
        if (state, steps_done) != (self.state, self.steps_done):
            self.state, self.steps_done, self.changed = state, steps_done, True

    def leaves(self) -> Iterator[Node]:
        if self.is_leaf:
            yield self
        for child in self.children:
            yield from child.leaves()


class Tree:
    """All blocks of one task: read in one query, written back where they changed."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = {node.pk: node for node in nodes}
        for node in self.nodes.values():
            if node.parent_id is None:
                self.root = node
            else:
                node.parent = self.nodes[node.parent_id]
                node.parent.children.append(node)

    @classmethod
    def of(cls, task_id: UUID) -> Tree:
        """Read the blocks of a task, children in their order."""
        fields = ("pk", "parent_id", "path", "kind", "state", "tolerated", "steps_done", "key")
        rows = Block.objects.filter(task=task_id).order_by("position").values_list(*fields)
        return cls(Node(*row) for row in rows)

    def ready(self) -> list[Node]:
        """Return the leaves that may run: all before them in serial blocks are over."""
        return list(_ready(self.root))

    def failed(self) -> list[Node]:
        """Return the leaves whose failure is not tolerated."""
        return [
            leaf
            for leaf in self.root.leaves()
            if leaf.state in (BlockState.FAILED, BlockState.ABORTED)
            and not any(one.tolerated for one in (leaf, *ancestors(leaf)))
        ]

    def derive(self, below: Iterable[Node], *, aborting: bool) -> None:
        """Bring all blocks above those of `below` up to date."""
        above = {node.pk: node for one in below for node in ancestors(one)}
        # The longest path first: children before their parents.
        for node in sorted(above.values(), key=lambda one: one.path.count("_"), reverse=True):
            state = derive((child.counts_as for child in node.children), aborting=aborting)
            node.set(state, sum(child.steps_done for child in node.children))

    def save(self) -> None:
        """Write what changed."""
        changed = [node for node in self.nodes.values() if node.changed]
        if not changed:
            return
        fields = ["state", "tolerated", "steps_done"]
        write_columns(
            [
                Block(pk=node.pk, **{name: getattr(node, name) for name in fields})
                for node in changed
            ],
            fields,
        )
        begun = [node.pk for node in changed if node.state in BlockState.running()]
        ended = [node.pk for node in changed if node.state in OVER]
        rows = Block.objects
        rows.filter(pk__in=begun).exclude(ended_at=None).update(ended_at=None)
        rows.filter(pk__in=[*begun, *ended], started_at=None).update(started_at=Now())
        rows.filter(pk__in=ended, ended_at=None).update(ended_at=Now())
        for node in changed:
            node.changed = False


def ancestors(node: Node) -> Iterator[Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def branch_of(leaf: Node) -> Node | None:
    """Return the branch of the nearest parallel block that `leaf` is in; None: there is none."""
    node = leaf
    while node.parent is not None:
        if node.parent.kind == Block.Kind.PARALLEL:
            return node
        node = node.parent
    return None


def _ready(node: Node) -> Iterator[Node]:
    if node.counts_as == BlockState.DONE:
        return
    if node.is_leaf:
        yield node
    elif node.kind == Block.Kind.PARALLEL:
        for child in node.children:
            yield from _ready(child)
    else:
        for child in node.children:
            if child.counts_as != BlockState.DONE:
                yield from _ready(child)
                return
