"""From deltas to what the planner takes: containers, steps, rules, members, dependencies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deployments import packages, types
from deployments.deltas import Wanted
from deployments.environments import Site
from deployments.planning import Block, Container, Delta, Operation, Rule, Spec, Step
from deployments.prepared import DeltaView
from deployments.types.base import START, reference

if TYPE_CHECKING:
    from deployments.models import Package

# A restart for changes inside guests: those need a running VM until they are made, so that it is
# stopped right before it starts (decision 0025), not at the order of STOP_CONTAINERS.
RESTART = START - 1


def change_of(delta: DeltaView, container: Container) -> types.Change:
    return types.Change(
        delta.deployed,
        container,
        delta.operation,
        delta.previous,
        delta.value,
        delta.created_vm,
        delta.forced,
    )


def container_of(delta: DeltaView, sites: Mapping[str, Site]) -> Container:
    """Return the container of a delta; one that is no member any more has only its name."""
    site = sites.get(delta.container)
    return site.container if site else Container(delta.container_name, delta.container)


def planned(delta: DeltaView, package: str | None, sites: Mapping[str, Site]) -> Delta:
    """Return a delta as the planner takes it, with its steps."""
    shown = delta.value or delta.previous
    assert shown is not None
    container = container_of(delta, sites)
    steps = types.contribute(types.TYPES[shown.type], change_of(delta, container))
    return Delta(delta.deployed, container, delta.operation, package, frozenset(shown.tags), steps)


def restarts(deltas: Iterable[DeltaView], sites: Mapping[str, Site]) -> tuple[Rule, ...]:
    """Return the rules that restart VMs: once per leaf and VM, where a change asks for it."""
    asking: dict[str, set[tuple[str, str]]] = {}
    names: dict[str, str] = {}
    for delta in deltas:
        if delta.operation in (Operation.NOOP, Operation.DESTROY) or delta.value is None:
            continue
        if delta.value.properties.get("restart") and delta.container.startswith("vm:"):
            asking.setdefault(delta.container, set()).add(delta.key)
            names[delta.container] = delta.container_name
    return tuple(
        Rule((path,), _restart(path, names[path]), asked_by=frozenset(asking[path]))
        for path in sorted(asking, key=lambda path: (names[path], path))
    )


def _restart(path: str, name: str) -> tuple[Step, ...]:
    on = reference(path)
    return (
        Step(
            RESTART,
            f"Stop {name} to restart it",
            action={"kind": "vm.stop", "container": on, "grace_seconds": 60, "force": True},
        ),
        Step(START, f"Start {name}", action={"kind": "vm.start", "container": on}),
        Step(
            START + 1,
            f"Wait for the guest of {name}",
            action={"kind": "vm.wait", "container": on, "for": "agent", "deadline_seconds": 300},
        ),
    )


def grouping(
    wanted: Sequence[Wanted], taking_part: Mapping[str, Package]
) -> tuple[dict[tuple[str, str], str], tuple[str, ...] | None, dict[str, tuple[str, ...]] | None]:
    """Return how deltas are told apart: package of (application, member), members, dependencies."""
    titles: dict[tuple[str, str], str] = {}
    root = wanted_root(wanted)
    before = root.record.package if root.record else None
    if before is not None and (members := _members(before)):
        titles |= {(root.application.name, m.application.name): m.title for m in members}
    current = root.package or before
    members = _members(current) if current is not None else []
    titles |= {(root.application.name, m.application.name): m.title for m in members}
    for one in wanted:
        titles[one.application.name, ""] = one.title
    if members:
        return titles, tuple(member.title for member in members), None
    needs: dict[str, tuple[str, ...]] | None = None
    if len(taking_part) > 1:
        shown = {key: package.title for key, package in taking_part.items()}
        shown |= {one.application.name.lower(): one.title for one in wanted}
        needs = {
            shown[key]: tuple(
                shown[name.lower()] for name in package.dependencies if name.lower() in shown
            )
            for key, package in taking_part.items()
        }
    return titles, None, needs


def wanted_root(wanted: Sequence[Wanted]) -> Wanted:
    """Return the application that was chosen."""
    return next(one for one in wanted if not one.as_dependency)


def _members(package: Package) -> list[Package]:
    return packages.flattened(package)[0] if packages.is_composite(package) else []


def balanced(block: Block, balancers: Mapping[str, Mapping[str, Any]]) -> Block:
    """Give the steps of load balancers their actions: the environment's scripts, or a person.

    The planner names them by verb, balancer and member; it knows of no scripts.
    """

    def with_action(step: Step) -> Step:
        if step.action.get("kind") != "balancer":
            return step
        asked = step.action
        known = balancers.get(asked["balancer"])
        if known is None:
            action: dict[str, Any] = {
                "kind": "manual",
                "instruction": f"{step.text}, then continue.",
            }
        else:
            script = known[asked["verb"]].replace("{{member}}", asked["member"])
            action = {
                "kind": "vm.execute",
                "container": {"vm": str(known["vm"])},
                "script": script,
                "interpreter": "/bin/sh",
                "timeout_seconds": known.get("timeout_seconds", 300),
                "undo": False,
                "repeatable": True,
            }
        return replace(step, action=action)

    return replace(
        block,
        children=tuple(balanced(child, balancers) for child in block.children),
        steps=tuple(with_action(step) for step in block.steps),
    )


def spec_of(
    wanted: Sequence[Wanted],
    taking_part: Mapping[str, Package],
    sites: Mapping[str, Site],
    *,
    operation: Operation,
    environment: str,
    orchestrators: Sequence[str],
    options: Mapping[str, Any],
) -> Spec:
    """Return what the planner takes."""
    root = wanted_root(wanted)
    titles, members, needs = grouping(wanted, taking_part)
    deltas, views = [], []
    for one in wanted:
        for delta in one.deltas:
            shown = delta.value or delta.previous
            member = shown.member if shown else ""
            own = titles.get((one.application.name, member), member or one.title)
            package = own if members is not None or needs is not None else None
            deltas.append(planned(delta, package, sites))
            views.append(delta)
    rest = dict(options)
    return Spec(
        operation,
        root.title,
        environment,
        tuple(deltas),
        tuple(orchestrators),
        members,
        needs,
        root.title if needs is not None else None,
        restarts(views, sites),
        optimize=bool(rest.pop("optimize", True)),
        split=bool(rest.pop("split", True)),
        options=rest,
    )
