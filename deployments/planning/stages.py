"""The stages after orchestration, from deltas in leaves to the numbered plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from deployments.planning.model import Block, Kind, Operation, Spec, Step, serial

MANY_ORDERS, MANY_STEPS = 30, 100  # the most steps of a leaf with several orders, and of any


def contribute(tree: Block, spec: Spec) -> Block:
    """Return the tree with the steps of each leaf, sorted by order.

    Plan-scope steps come before those of deltas; equal orders stay as contributed.
    """
    rules_of: dict[str, list[int]] = {}
    for position, rule in enumerate(spec.rules):
        for path in rule.containers:
            rules_of.setdefault(path, []).append(position)

    def filled(block: Block) -> Block:
        if not block.is_leaf:
            return replace(block, children=tuple(filled(child) for child in block.children))
        asked_by: dict[int, list[tuple[str, str]]] = {}
        own: list[Step] = []
        for delta in block.deltas:
            pair = (delta.deployed, delta.container.place[1])
            own += [replace(step, deployeds=(pair,)) for step in delta.steps]
            if delta.operation is not Operation.NOOP:
                for position in rules_of.get(pair[1], ()):
                    asking = spec.rules[position].asked_by
                    if asking is None or pair in asking:
                        asked_by.setdefault(position, []).append(pair)
        shared = [
            replace(step, deployeds=tuple(asked_by[position]))
            for position in sorted(asked_by)
            for step in spec.rules[position].steps
        ]
        return replace(block, steps=in_order((*shared, *own)))

    return filled(tree)


def in_order(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(sorted(steps, key=lambda step: step.order))


def simplify(block: Block) -> Block | None:
    """Return the tree without what says nothing; None when no step is left.

    Blocks without steps go; a composite of one child becomes the child, with the child's label; a
    serial directly in a serial is spliced in. Parallel in parallel stays.
    """
    if block.is_leaf:
        return block if block.steps else None
    children: list[Block] = []
    for child in block.children:
        simple = simplify(child)
        if simple is None:
            continue
        if block.kind is simple.kind is Kind.SERIAL:
            children += simple.children
        else:
            children.append(simple)
    if len(children) < 2:
        return children[0] if children else None
    return replace(block, children=tuple(children))


def split(block: Block) -> Block:
    """Cut long leaves: more than 30 steps by order, then more than 100 into parts of 100."""
    if not block.is_leaf:
        return replace(block, children=tuple(split(child) for child in block.children))
    if len(block.steps) <= MANY_ORDERS:
        return block
    by_order: dict[int, list[Step]] = {}
    for step in block.steps:
        by_order.setdefault(step.order, []).append(step)
    if len(by_order) == 1 and len(block.steps) <= MANY_STEPS:
        return block
    parts = [
        cut(replace(block, label=f"order {order}", steps=tuple(steps)))
        for order, steps in by_order.items()
    ]
    return parts[0] if len(parts) == 1 else whole(block, block.label, parts)


def cut(block: Block) -> Block:
    if len(block.steps) <= MANY_STEPS:
        return block
    starts = range(0, len(block.steps), MANY_STEPS)
    parts = [
        replace(
            block,
            label=f"{block.label} part {part}",
            steps=block.steps[start : start + MANY_STEPS],
        )
        for part, start in enumerate(starts, 1)
    ]
    return whole(block, block.label, parts)


def whole(block: Block, label: str, parts: list[Block]) -> Block:
    return replace(serial(label, parts), made_by=block.made_by, key=block.key)


def wrap(tree: Block | None, spec: Spec) -> Block | None:
    """Return the tree between the blocks of pre-plan and post-plan, where those have steps.

    None when there is no step at all.
    """

    def extra(label: str, steps: tuple[Step, ...]) -> Block:
        block = Block(Kind.INTERLEAVED, label, steps=in_order(steps))
        return split(block) if spec.split else block

    parts = []
    if spec.before:
        parts.append(extra("Prepare deployment", spec.before))
    if tree is not None and any(part.steps for part in tree.leaves()):
        parts.append(tree)
    if spec.after:
        parts.append(extra("Finalize deployment", spec.after))
    if len(parts) < 2:
        return parts[0] if parts else None
    return serial(spec.label, parts)


def number(tree: Block) -> Block:
    """Return the tree with its steps counted from 1, depth-first in listing order."""
    return numbered(tree, count(1))


def numbered(block: Block, numbers: Iterator[int]) -> Block:
    return replace(
        block,
        children=tuple(numbered(child, numbers) for child in block.children),
        steps=tuple(replace(step, number=next(numbers)) for step in block.steps),
    )
