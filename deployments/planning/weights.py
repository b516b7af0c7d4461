"""Orchestrators by weight: the heavier first, or as many at once as a weight in all allows."""

from __future__ import annotations

from typing import Any

from deployments.planning.grouping import (
    Group,
    batches,
    by_container,
    collect,
    grouped,
    in_direction,
    names,
)
from deployments.planning.model import Block, Container, Context, Kind, PlanError

LABEL = "weight"
USUAL = 50  # of a container without the label
MOST = "maxWeightInParallel"


def weight_of(container: Container) -> int:
    """Return the weight that a container's label says. Raises PlanError for what is no weight."""
    text = str(container.labels.get(LABEL, USUAL)).strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise PlanError(
            f"The label {LABEL} of {container.name} is {text!r}; give a whole number from 0 on."
        )
    return int(text)


def by_weight(block: Block, context: Context) -> list[Group]:
    """Make a leaf per weight, the heaviest first."""
    found = collect(block.deltas, lambda delta: weight_of(delta.container))
    groups = []
    for weight in sorted(found, reverse=True):
        label = f"{context.spec.verb} on {names(found[weight])} (Weight {weight})"
        groups.append(Group(label, str(weight), found[weight]))
    return groups


def parallel_by_weight(block: Block, context: Context) -> Block:
    """Do all weights at once; or with `maxWeightInParallel` batches of containers.

    These are filled with the heaviest first, as long as their weights add up to no more than that;
    one that is heavier alone is a batch of its own.
    """
    most = context.parameters.get(MOST)
    if most is None:
        return grouped(Kind.PARALLEL, by_weight)(block, context)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise PlanError(f"{MOST} is {most!r}; give a whole number from 1 on.")
    if "batch" in context.own:
        raise PlanError(f"{context.name} has batch and {MOST}; give one of them.")
    heaviest = sorted(by_container(block, context), key=lambda group: -_weight(group))
    groups = in_direction(heaviest, context)
    return batches(block.label, groups, _lengths(groups, most), context)


def _weight(group: Group) -> int:
    return weight_of(group.deltas[0].container)


def _lengths(groups: list[Group], most: Any) -> list[int]:
    lengths: list[int] = []
    room = -1
    for group in groups:
        weight = _weight(group)
        if lengths and weight <= room:
            lengths[-1] += 1
            room -= weight
        else:
            lengths.append(1)
            room = most - weight
    return lengths
