"""Containers tagged `large` come first, one after the other; the rest follows at once."""

from __future__ import annotations

from deployments.planning import Block, Context, leaf, parallel, serial


def largest_first(block: Block, context: Context) -> Block:
    """Return a serial of a leaf per large container, and a parallel one of all others.

    `block` is one leaf of the tree so far, with its `deltas`. What is returned must hold each of
    them in exactly one leaf. `context.parameters` has what stands in braces behind the name, and
    `context.spec` the whole deployment.
    """
    tag = context.parameters.get("tag", "large")
    names = sorted({delta.container.place for delta in block.deltas})
    leaves = {
        place: leaf(
            f"{context.spec.verb} on {place[0]}",
            [delta for delta in block.deltas if delta.container.place == place],
            place[1],
        )
        for place in names
    }
    large = {delta.container.place for delta in block.deltas if tag in delta.container.tags}
    first = [leaves[place] for place in names if place in large]
    rest = [leaves[place] for place in names if place not in large]
    return serial(block.label, [*first, parallel("The others", rest)] if rest else first)


def broken_last(block: Block, context: Context) -> Block:
    """Lose a delta: what the product refuses, with a sentence, before anything runs."""
    return leaf(block.label, block.deltas[:-1])
