"""Orchestrators that make a leaf per key: by container, group, member, deployed, host, label."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

from deployments.planning.model import (
    Block,
    Container,
    Context,
    Delta,
    Kind,
    Operation,
    PlanError,
    leaf,
    parallel,
    serial,
)


class Group(NamedTuple):
    """What becomes one leaf: its label and key, and its deltas in delta order."""

    label: str
    key: str
    deltas: list[Delta]

    @property
    def block(self) -> Block:
        return leaf(self.label, self.deltas, self.key)


Grouping = Callable[[Block, Context], list[Group]]


def collect(deltas: Iterable[Delta], key: Callable[[Delta], Hashable]) -> dict[Any, list[Delta]]:
    """Return the deltas per key; keys in the order in which they first occur."""
    found: dict[Any, list[Delta]] = {}
    for delta in deltas:
        found.setdefault(key(delta), []).append(delta)
    return found


def names(deltas: Iterable[Delta]) -> str:
    """Return the containers, sorted, NOOP ones included: “container a”, “containers a, b”."""
    places = sorted({delta.container.place for delta in deltas})
    return f"container{'s' * (len(places) > 1)} {', '.join(name for name, _ in places)}"


def by_container(block: Block, context: Context) -> list[Group]:
    """Make a leaf per container, by name and then path."""
    found = collect(block.deltas, lambda delta: delta.container.place)
    return [
        Group(f"{context.spec.verb} on {place[0]}", place[1], found[place])
        for place in sorted(found)
    ]


def by_container_in_place(block: Block, context: Context) -> list[Group]:
    """Make a leaf per container, by name; one with nothing to do keeps its place in delta order.

    The place rests on one worked case (C23c; decision 0016). Simplification removes such leaves.
    """
    by_name = by_container(block, context)
    first = dict.fromkeys(delta.container.place[1] for delta in block.deltas)
    idle = {
        group.key
        for group in by_name
        if all(d.operation is Operation.NOOP and not d.steps for d in group.deltas)
    }
    groups = {group.key: group for group in by_name}
    busy = iter([group for group in by_name if group.key not in idle])
    return [groups[key] if key in idle else next(busy) for key in first]


def by_number(word: str, value: Callable[[Container], int | None]) -> Grouping:
    """Make a leaf per group number: none first, then ascending as numbers."""

    def group(block: Block, context: Context) -> list[Group]:
        return by_value(block, context, word, value)

    return group


def by_value(
    block: Block, context: Context, word: str, value: Callable[[Container], Any]
) -> list[Group]:
    found = collect(block.deltas, lambda delta: value(delta.container))
    ordered = sorted(found, key=lambda key: (key is not None, key if key is not None else 0))
    groups = []
    for key in ordered:
        shown = "default" if key is None else str(key)
        label = f"{context.spec.verb} on {names(found[key])} ({word} {shown})"
        groups.append(Group(label, shown, found[key]))
    return groups


def by_host(block: Block, context: Context) -> list[Group]:
    """Make a leaf per machine that the containers run on; those on none first."""
    return by_value(block, context, "Host", lambda container: container.host)


def by_label(key: str) -> Grouping:
    """Make a leaf per value of a label, as plain text; containers without it first."""

    def group(block: Block, context: Context) -> list[Group]:
        return by_value(block, context, key, lambda container: container.labels.get(key))

    return group


def by_site(block: Block, context: Context) -> list[Group]:
    """Make a leaf per site, which is the label of this name; containers without it first."""
    return by_value(block, context, "Site", lambda container: container.labels.get("site"))


def by_member(block: Block, context: Context) -> list[Group]:
    """Make a leaf per member of a composite, in its order; dropped members follow.

    A package that is not a composite has one leaf.
    """
    spec = context.spec
    if spec.members is None:
        return [Group(spec.label, spec.title, list(block.deltas))]
    found = collect(block.deltas, lambda delta: delta.package)
    # A dict keeps the first of each: a member that is named twice counts once.
    ordered = dict.fromkeys([*(name for name in spec.members if name in found), *found])
    return [
        Group(
            f"{spec.verb} package {name}" if name else f"{spec.verb} without a package",
            name or "",
            found[name],
        )
        for name in ordered
    ]


def by_deployed(block: Block, context: Context) -> list[Group]:
    """Make a leaf per delta, by name of the deployed, then container."""
    ordered = sorted(block.deltas, key=lambda delta: (delta.deployed, delta.container.place))
    return [
        Group(f"{context.spec.verb} {delta.deployed}", delta.deployed, [delta]) for delta in ordered
    ]


def grouped(kind: Kind, grouping: Grouping) -> Callable[[Block, Context], Block]:
    """Return the orchestrator of a grouping; blocks in reverse when all is undeployed.

    A parallel one takes `batch` in its braces, as `rolling` does.
    """

    def orchestrate(block: Block, context: Context) -> Block:
        groups = in_direction(grouping(block, context), context)
        batch = context.own.get("batch") if kind is Kind.PARALLEL else None
        if batch is not None:
            return batches(block.label, groups, sizes(batch, len(groups)), context)
        return Block(kind, block.label, children=tuple(group.block for group in groups))

    return orchestrate


def in_direction(groups: list[Group], context: Context) -> list[Group]:
    return groups[::-1] if context.spec.reversed else groups


def throttled(block: Block, context: Context) -> Block:
    """Make chunks of at most `maxContainersInParallel` containers, one chunk after the other."""
    most = context.parameters.get("maxContainersInParallel")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int)):
        raise PlanError(f"maxContainersInParallel is {most!r}; give a whole number.")
    groups = in_direction(by_container(block, context), context)
    if most is None or most < 1 or most >= len(groups):
        alone = in_direction(by_container_in_place(block, context), context)
        return parallel(block.label, (group.block for group in alone))
    return batches(block.label, groups, sizes(most, len(groups)), context)


def rolling(block: Block, context: Context) -> Block:
    """Make batches of containers by `batch`, one batch after the other."""
    batch = context.parameters.get("batch")
    if batch is None:
        raise PlanError('rolling needs its batches; write for example rolling{"batch": "25%"}.')
    groups = in_direction(by_container(block, context), context)
    return batches(block.label, groups, sizes(batch, len(groups)), context)


def batches(label: str, groups: list[Group], lengths: list[int], context: Context) -> Block:
    """Return a serial of parallel chunks; a chunk of one is a leaf."""
    children = []
    start = 0
    for length in lengths:
        chunk = groups[start : start + length]
        start += length
        if len(chunk) == 1:
            children.append(chunk[0].block)
            continue
        keys = ", ".join(group.key for group in chunk)
        deltas = [delta for group in chunk for delta in group.deltas]
        text = f"{context.spec.verb} on {names(deltas)}"
        children.append(parallel(text, (group.block for group in chunk), keys))
    return serial(label, children)


def sizes(batch: Any, total: int) -> list[int]:
    """Return the lengths of the batches, which add up to `total`.

    `batch` is a count, a share of the total such as "25%" (rounded down, at least one), or a list
    of these: one batch each, the last one again until nothing is left. Raises PlanError.
    """
    parts = batch if isinstance(batch, list) else [batch]
    if not parts:
        raise PlanError("batch is an empty list; give at least one count or percentage.")
    counts = [size(part, total) for part in parts]
    lengths: list[int] = []
    left = total
    while left:
        length = min(left, counts[min(len(lengths), len(counts) - 1)])
        lengths.append(length)
        left -= length
    return lengths


def size(part: Any, total: int) -> int:
    if isinstance(part, int) and not isinstance(part, bool) and part >= 1:
        return part
    if isinstance(part, str) and re.fullmatch(r"[0-9]{1,3}%", part):
        percent = int(part[:-1])
        if 1 <= percent <= 100:
            return max(1, total * percent // 100)
    raise PlanError(f"batch has {part!r}; give a count from 1, or a share from 1% to 100%.")
