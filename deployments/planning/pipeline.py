"""The pipeline: orchestrate → contribute and sort → simplify → split → wrap → number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from deployments.planning import registry
from deployments.planning.model import Block, Context, Orchestrator, PlanError, Spec, leaf
from deployments.planning.stages import contribute, number, simplify, split, wrap

MOST_ORCHESTRATORS = 50  # each may add two levels; a tree is walked by recursion


def plan(spec: Spec, custom: Mapping[str, registry.Loader] | None = None) -> Block | None:
    """Return the numbered plan; None when there is nothing to run.

    `custom` are orchestrators besides our own (`registry.custom`). Raises PlanError for unknown
    orchestrators, wrong parameters, and a custom one that loses deltas.
    """
    tree: Block | None = contribute(orchestrate(spec, custom), spec)
    if tree is not None and spec.optimize:
        tree = simplify(tree)
    if tree is not None and spec.split:
        tree = split(tree)
    tree = wrap(tree, spec)
    return number(tree) if tree is not None else None


def orchestrate(spec: Spec, custom: Mapping[str, registry.Loader] | None = None) -> Block:
    """Return the tree of blocks whose leaves hold the deltas; the first named is outermost."""
    if len(spec.orchestrators) > MOST_ORCHESTRATORS:
        raise PlanError(
            f"There are {len(spec.orchestrators)} orchestrators; give at most {MOST_ORCHESTRATORS}."
        )
    # All names are looked up first: a wrong one must not hide behind an empty tree.
    found = [registry.resolve(name, spec, custom or {}) for name in spec.orchestrators]
    tree = leaf(spec.label, spec.deltas)
    for orchestrator, context in found:
        tree = apply(tree, orchestrator, context)
    return tree


def apply(block: Block, orchestrator: Orchestrator, context: Context) -> Block:
    """Replace every leaf that has deltas by what the orchestrator makes of it."""
    if not block.is_leaf:
        children = tuple(apply(child, orchestrator, context) for child in block.children)
        return replace(block, children=children)
    if not block.deltas:
        return block
    made = asked(block, orchestrator, context)
    if made is block:
        return block
    made = signed(made, context.name)
    # The composite stands where its leaf stood: it keeps that leaf's label and origin.
    return replace(made, label=block.label, made_by=block.made_by or context.name, key=block.key)


def asked(block: Block, orchestrator: Orchestrator, context: Context) -> Block:
    """Return what the orchestrator makes, checked: each delta of the leaf exactly once."""
    try:
        made = orchestrator(block, context)
    except PlanError:
        raise
    except Exception as error:
        raise PlanError(
            f"The orchestrator {context.name} failed on “{block.label}”"
            f" ({type(error).__name__}: {error}); repair it."
        ) from error
    if not isinstance(made, Block):
        raise PlanError(
            f"The orchestrator {context.name} returned {type(made).__name__}; return a Block."
        )
    seen = [id(delta) for part in made.leaves() for delta in part.deltas]
    wanted = {id(delta) for delta in block.deltas}
    kept = [one for one in seen if one in wanted]
    if len(kept) != len(wanted) or set(kept) != wanted:
        raise PlanError(
            f"The orchestrator {context.name} lost or doubled deltas of “{block.label}”;"
            " put each delta of the leaf into exactly one leaf."
        )
    return made


def signed(block: Block, name: str) -> Block:
    children = tuple(signed(child, name) for child in block.children)
    return replace(block, children=children, made_by=name)
