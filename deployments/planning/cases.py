"""The case format: reading plans to make, writing trees, comparing and drawing them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from deployments.planning.model import (
    Block,
    Container,
    Delta,
    Kind,
    Operation,
    PlanError,
    Rule,
    Spec,
    Step,
)

Tree = dict[str, Any]


class CaseError(ValueError):
    """A file is not in the case format; the text is one sentence that says where."""


def read(text: str) -> dict[str, Tree]:
    """Return the cases of a file by id, each with its `input`. Raises CaseError."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaseError(f"The file is not JSON ({error}).") from error
    cases = get(data, "cases", list, "the file")
    found: dict[str, Tree] = {}
    for position, case in enumerate(cases):
        name = get(case, "id", str, f"cases[{position}]")
        get(case, "input", dict, f"case {name}")
        if name in found:
            raise CaseError(f"The id {name} is given to two cases; ids are unique.")
        found[name] = case
    return found


def spec(case: Tree) -> Spec:
    """Return what a case asks to plan. Raises CaseError."""
    where = f"case {case['id']}"
    given = case["input"]
    operation = operation_of(get(given, "operation", str, where), where)
    if operation is Operation.NOOP:
        raise CaseError(f"The operation of {where} is NOOP; give CREATE, MODIFY or DESTROY.")
    containers: dict[str, Container] = {}
    for one in get(given, "containers", list, where):
        made = container(one, where)
        if made.place[1] in containers:
            raise CaseError(f"The container {made.place[1]} of {where} is given twice.")
        containers[made.place[1]] = made

    def on(name: Any) -> Container:
        if not isinstance(name, str) or name not in containers:
            raise CaseError(f"There is no container {name!r} in {where}; add it to containers.")
        return containers[name]

    deltas = []
    for one in get(given, "deltas", list, where):
        deltas.append(
            Delta(
                get(one, "deployed", str, where),
                on(one.get("container")),
                operation_of(get(one, "op", str, where), where),
                get(one, "package", str, where, None),
                frozenset(texts(get(one, "tags", list, where, []), "tags", where)),
                steps(get(one, "steps", list, where, []), where),
            )
        )
    rules = [
        Rule(
            tuple(on(name).place[1] for name in get(rule, "containers", list, where)),
            steps(get(rule, "steps", list, where), where),
        )
        for rule in get(given, "lifecycle", list, where, [])
    ]
    packages = get(given, "packages", list, where, None)
    needs = get(given, "dependencies", dict, where, None)
    options = dict(get(given, "options", dict, where, {}))
    for switch in ("optimize", "split"):
        get(options, switch, bool, where, True)
    return Spec(
        operation,
        get(given, "title", str, where),
        get(given, "environment", str, where),
        tuple(deltas),
        texts(get(given, "orchestrators", list, where, []), "orchestrators", where),
        None if packages is None else texts(flattened(packages), "packages", where),
        None
        if needs is None
        else {key: texts(get(needs, key, list, where), key, where) for key in needs},
        get(given, "root", str, where, None),
        tuple(rules),
        steps(get(given, "prePlan", list, where, []), where),
        steps(get(given, "postPlan", list, where, []), where),
        optimize=options.pop("optimize", True),
        split=options.pop("split", True),
        options=options,
    )


def container(one: Any, where: str) -> Container:
    labels = get(one, "labels", dict, where, {})
    texts(labels.values(), "labels", where)
    return Container(
        get(one, "name", str, where),
        get(one, "path", str, where, ""),
        get(one, "group", int, where, None),
        get(one, "sub", int, where, None),
        get(one, "subsub", int, where, None),
        frozenset(texts(get(one, "tags", list, where, []), "tags", where)),
        get(one, "lb", str, where, None),
        get(one, "host", str, where, None),
        labels,
    )


MISSING = object()


def get(data: Any, key: str, kind: type, where: str, default: Any = MISSING) -> Any:
    """Return a value of a kind; null counts as not given where there is a default."""
    if not isinstance(data, dict):
        raise CaseError(f"A part of {where} is {type(data).__name__}; give an object.")
    value = data.get(key)
    if value is None and default is not MISSING:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise CaseError(f"{key!r} in {where} is {value!r:.60}; give {kind.__name__}.")
    return value


def operation_of(name: str, where: str) -> Operation:
    if name not in Operation.__members__:
        raise CaseError(
            f"{where} has the operation {name!r}; give one of {', '.join(Operation.__members__)}."
        )
    return Operation[name]


def texts(values: Iterable[Any], key: str, where: str) -> tuple[str, ...]:
    found = tuple(values)
    if not all(isinstance(value, str) for value in found):
        raise CaseError(f"{key!r} in {where} holds something that is no text.")
    return found


def flattened(packages: list[Any]) -> Iterator[Any]:
    """Yield members of nested composites depth-first, in place."""
    stack = [iter(packages)]
    while stack:
        for one in stack[-1]:
            if isinstance(one, list):
                stack.append(iter(one))
                break
            yield one
        else:
            stack.pop()


def steps(values: list[Any], where: str) -> tuple[Step, ...]:
    found = []
    for value in values:
        match value:
            case [int() as order, str() as text] if not isinstance(order, bool):
                found.append(Step(order, text))
            case _:
                raise CaseError(f"A step of {where} is {value!r:.60}; give [order, text].")
    return tuple(found)


def tree(block: Block | None) -> Tree | None:
    """Return a plan with exactly the keys of the case format."""
    if block is None:
        return None
    if block.kind is Kind.INTERLEAVED:
        rows = [[step.number, step.order, step.text] for step in block.steps]
        return {"block": block.kind.value, "label": block.label, "steps": rows}
    children = [tree(child) for child in block.children]
    return {"block": block.kind.value, "label": block.label, "children": children}


def difference(expected: Any, planned: Tree | None, labels: bool, path: str) -> str | None:
    """Return the first difference, depth-first, as one line that begins with its path."""
    if not isinstance(expected, dict) or planned is None:
        same = expected is None and planned is None
        return None if same else f"{path}: expected {short(expected)}, planned {short(planned)}"
    for key in ("block", "label") if labels else ("block",):
        if expected.get(key) != planned[key]:
            return f"{path}.{key}: expected {expected.get(key)!r}, planned {planned[key]!r}"
    key = "steps" if "steps" in planned else "children"
    wanted, got = expected.get(key), planned[key]
    if not isinstance(wanted, list):
        return f"{path}.{key}: expected {wanted!r}, planned {len(got)}"
    for position, (one, other) in enumerate(zip(wanted, got, strict=False)):
        here = f"{path}.{key}[{position}]"
        if key == "children":
            if found := difference(one, other, labels, here):
                return found
        elif one != other:
            return f"{here}: expected {one!r}, planned {other!r}"
    if len(wanted) != len(got):
        here = f"{path}.{key}[{min(len(wanted), len(got))}]"
        return f"{here}: expected {len(wanted)} {key}, planned {len(got)}"
    return None


def short(found: Any) -> str:
    return f"a {found['block']} block" if isinstance(found, dict) and "block" in found else "null"


def drawing(block: Block | None, indent: int = 0) -> Iterator[str]:
    """Yield the lines of an indented drawing: number, order and text of every step."""
    if block is None:
        yield "nothing to run"
        return
    yield f"{'  ' * indent}{block.kind.name[0]} {block.label}"
    for step in block.steps:
        yield f"{'  ' * indent}{step.number:6} {step.order:4}  {step.text}"
    for child in block.children:
        yield from drawing(child, indent + 1)


__all__ = ["CaseError", "PlanError", "difference", "drawing", "read", "spec", "tree"]
