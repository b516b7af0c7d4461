"""Orchestrators by dependency: what is needed comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from deployments.planning.grouping import Group, collect
from deployments.planning.model import Block, Context, Delta, PlanError, Spec, parallel, serial


def applications(block: Block, spec: Spec) -> dict[str, list[Delta]]:
    """Return the deltas per application; all belong to the chosen one when nothing is needed."""
    if spec.dependencies is None:
        return {spec.root or spec.title: list(block.deltas)}
    root = spec.root or spec.title
    return collect(block.deltas, lambda delta: delta.package or root)


def needed_first(spec: Spec, present: Iterable[str]) -> list[str]:
    """Return all applications so that each follows what it needs.

    Starts at the chosen one and follows dependencies as declared; what nothing leads to comes
    last, by name. Raises PlanError for a circle.
    """
    needs: Mapping[str, tuple[str, ...]] = spec.dependencies or {}
    done: dict[str, None] = {}
    starts = [spec.root or spec.title, *sorted({*needs, *present})]
    for start in starts:
        # A stack of our own: chains may be longer than Python's.
        path: dict[str, None] = {}
        stack = [(start, False)]
        while stack:
            name, left = stack.pop()
            if left:
                del path[name]
                done[name] = None
                continue
            if name in done:
                continue
            if name in path:
                circle = [*path][[*path].index(name) :]
                raise PlanError(
                    f"These applications need each other: {' → '.join([*circle, name])};"
                    " remove one of the dependencies."
                )
            path[name] = None
            stack.append((name, True))
            stack.extend((need, False) for need in reversed(needs.get(name, ())))
    return list(done)


def group(name: str, deltas: list[Delta], spec: Spec) -> Group:
    return Group(f"{spec.verb} {name} on {spec.environment}", name, deltas)


def sequential_by_dependency(block: Block, context: Context) -> Block:
    """Make a leaf per application, the needed one first; the dependant first on undeploy."""
    spec = context.spec
    found = applications(block, spec)
    ordered = [name for name in needed_first(spec, found) if name in found]
    if spec.reversed:
        ordered.reverse()
    return serial(block.label, (group(name, found[name], spec).block for name in ordered))


def parallel_by_dependency(block: Block, context: Context) -> Block:
    """Make a parallel block per level, deepest first; reversed on undeploy.

    The level of an application is the longest way to it from the chosen one.
    """
    spec = context.spec
    found = applications(block, spec)
    ordered = needed_first(spec, found)
    level = dict.fromkeys(ordered, 0)
    for name in reversed(ordered):
        for need in (spec.dependencies or {}).get(name, ()):
            level[need] = max(level[need], level[name] + 1)
    levels: dict[int, list[str]] = {}
    for name in ordered:
        if name in found:
            levels.setdefault(level[name], []).append(name)
    children = []
    for number in sorted(levels, reverse=not spec.reversed):
        inside = levels[number]
        label = f"{spec.verb} {', '.join(inside)} on {spec.environment}"
        leaves = (group(name, found[name], spec).block for name in inside)
        children.append(parallel(label, leaves, f"level {number}"))
    return serial(block.label, children)
