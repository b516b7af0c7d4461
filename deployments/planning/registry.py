"""From the name of an orchestrator to its function, own and custom ones."""

from __future__ import annotations

import difflib
import functools
import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from deployments.planning import dependencies, grouping, special, weights
from deployments.planning.model import Context, Kind, Orchestrator, PlanError, Spec

ENTRY_POINTS = "orchestrator.planning"

GROUPINGS: dict[str, grouping.Grouping] = {
    "container": grouping.by_container_in_place,
    "composite-package": grouping.by_member,
    "deployment-group": grouping.by_number("Group", lambda container: container.group),
    "deployment-sub-group": grouping.by_number("SubGroup", lambda container: container.sub_group),
    "deployment-sub-sub-group": grouping.by_number(
        "SubSubGroup", lambda container: container.sub_sub_group
    ),
    "deployed": grouping.by_deployed,
    "host": grouping.by_host,
    "site": grouping.by_site,
    "weight": weights.by_weight,
}
PREFIXES = {"sequential-by-": Kind.SERIAL, "parallel-by-": Kind.PARALLEL}
OWN: dict[str, Orchestrator] = {
    "default": special.default,
    **{
        f"{prefix}{word}": grouping.grouped(kind, by)
        for word, by in GROUPINGS.items()
        for prefix, kind in PREFIXES.items()
    },
    "sequential-by-dependency": dependencies.sequential_by_dependency,
    "parallel-by-dependency": dependencies.parallel_by_dependency,
    "sequential-by-loadbalancer-group": special.by_balancer,
    "parallel-by-container-throttled": grouping.throttled,
    "canary": special.canary,
    "rolling": grouping.rolling,
    "parallel-by-weight": weights.parallel_by_weight,
}
LABEL = re.compile(r"(sequential-by-|parallel-by-)label:(.+)", re.DOTALL)
# What the braces of our own may hold; custom ones look at theirs themselves.
PARAMETERS = {
    "parallel-by-container-throttled": {"maxContainersInParallel"},
    "parallel-by-weight": {"batch", weights.MOST},
    "rolling": {"batch"},
}

Loader = Callable[[], Any]


def custom(setting: Sequence[str] = ()) -> dict[str, Loader]:
    """Return the custom orchestrators by name; each is loaded when it is asked for.

    They come from entry points of the group `orchestrator.planning` and from `setting`, entries
    `name=package.module:function`, which win. Raises PlanError for an entry of another form.
    """
    found: dict[str, Loader] = {
        point.name: point.load for point in entry_points(group=ENTRY_POINTS)
    }
    for entry in setting:
        name, _, target = (part.strip() for part in entry.partition("="))
        module, _, attribute = target.partition(":")
        if not (name and module and attribute):
            raise PlanError(
                f"DEPLOYMENT_ORCHESTRATORS has {entry!r}; write name=package.module:function."
            )
        found[name] = functools.partial(load, module, attribute)
    return found


def load(module: str, attribute: str) -> Any:
    return getattr(importlib.import_module(module), attribute)


def resolve(written: str, spec: Spec, custom: Mapping[str, Loader]) -> tuple[Orchestrator, Context]:
    """Return the orchestrator of a name with or without `{parameters}`, and what it may look at.

    Raises PlanError for an unknown name, for wrong parameters and for a custom one that cannot be
    loaded.
    """
    name, own = parse(written)
    function = find(name, custom)
    if function in OWN.values() or LABEL.fullmatch(name):
        allowed = PARAMETERS.get(name, {"batch"} if name.startswith("parallel-by-") else set())
        if name == "parallel-by-dependency":
            allowed = set()
        if wrong := own.keys() - allowed:
            raise PlanError(
                f"The orchestrator {name} has no parameter {', '.join(sorted(wrong))};"
                f" it takes {', '.join(sorted(allowed)) or 'none'}."
            )
    return function, Context(spec, name, own, {**spec.options, **own})


def parse(written: str) -> tuple[str, dict[str, Any]]:
    """Return name and parameters of `name{json}`; bare words and shares need no quotes."""
    name, brace, rest = written.partition("{")
    if not brace:
        return name, {}
    text = brace + rest
    for attempt in (text, re.sub(r"(\d+%)", r'"\1"', re.sub(r"(\w+)\s*:", r'"\1":', text))):
        try:
            own = json.loads(attempt)
        except (ValueError, RecursionError):
            continue
        return name, own
    raise PlanError(
        f"The parameters of the orchestrator {written!r} are not JSON;"
        ' write them as in rolling{"batch": "25%"}.'
    )


def find(name: str, custom: Mapping[str, Loader]) -> Orchestrator:
    if name in custom:
        if name in OWN or LABEL.fullmatch(name):
            raise PlanError(
                f"A custom orchestrator is called {name}, as one of ours; give it another name."
            )
        try:
            function = custom[name]()
        except Exception as error:
            raise PlanError(
                f"The custom orchestrator {name} cannot be loaded ({type(error).__name__}:"
                f" {error}); repair or remove its package or setting."
            ) from error
        if not callable(function):
            raise PlanError(f"The custom orchestrator {name} is no function; register a function.")
        return function
    if match := LABEL.fullmatch(name):
        return grouping.grouped(PREFIXES[match[1]], grouping.by_label(match[2]))
    if name in OWN:
        return OWN[name]
    near = difflib.get_close_matches(name, [*OWN, *custom], 1)
    hint = f"did you mean {near[0]}?" if near else "docs/planning.md lists them."
    raise PlanError(f"There is no orchestrator {name!r}; {hint}")
