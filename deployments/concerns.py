"""What is worth a look before a deployment starts: warnings, never refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings

from accounts.models import Role
from deployments import access, packages
from deployments.building import change_of, container_of
from deployments.deltas import Comparison, Wanted
from deployments.models import Environment
from deployments.planning import Block, Operation, plan, registry
from deployments.planning.model import Kind
from deployments.prepared import DeltaView, Prepared, Warning
from deployments.types.machines import is_replaced
from deployments.wording import some
from hosts.models import HostCapacity
from orchestrator.refusals import Refusal
from vms.ending import require_use
from vms.models import Template

if TYPE_CHECKING:
    from accounts.actors import Actor
    from deployments.environments import Site

STOPPING = ("vm.stop", "vm.suspend")
IN_GUEST = (
    *("vm.upload", "vm.remove_file", "vm.execute", "vm.service"),
    *("config.write", "config.remove", "vm.unpack", "vm.remove_unpacked"),
)
GROUPS = {
    "deployment-group": "group",
    "deployment-sub-group": "sub_group",
    "deployment-sub-sub-group": "sub_sub_group",
}


def of_selection(comparison: Comparison, root: Wanted, gone: Sequence[str]) -> tuple[Warning, ...]:
    """Return what is odd about what was chosen."""
    found = []
    if comparison.unmapped:
        text = (
            f"Nothing here takes {some(comparison.unmapped)}: no container fits by type and tags."
        )
        found.append(Warning("unmapped", text))
    if gone:
        found.append(Warning("member_gone", f"Members that are gone: {some(gone)}."))
    if root.package:
        again = packages.flattened(root.package)[1]
        if again:
            text = f"{some(str(one) for one in again)} is in the composite more than once; the"
            found.append(Warning("duplicate_member", f"{text} first place counts."))
    if root.record and root.record.partial:
        text = "The last deployment was cancelled before its end; this one goes on from there."
        found.append(Warning("partial", text))
    return tuple(found)


def of_plan(prepared: Prepared, sites: Mapping[str, Site], actor: Actor) -> tuple[Warning, ...]:
    """Return what is odd about the plan and about where it runs."""
    changed = [one for one in prepared.deltas if one.operation is not Operation.NOOP]
    found = [
        *_access(prepared, actor),
        *_approvers(prepared),
        *_undoing(changed),
        *_replacing(changed, sites),
        *_places(changed, sites, actor),
        *_capacity(changed),
        *_groups(prepared, changed, sites),
    ]
    if prepared.plan is None:
        return tuple(found)
    found += _restarts(prepared.plan, sites)
    found += _stopped_guests(prepared.plan, sites)
    found += _concurrent(prepared.plan, sites)
    found += _width(prepared, sites)
    if prepared.kind != "rollback":  # nobody chooses them there
        found += _without_effect(prepared)
    return tuple(found)


def _access(prepared: Prepared, actor: Actor) -> Iterator[Warning]:
    environment = Environment.objects.filter(pk=prepared.environment_id).first()
    if actor.can("deployments.run") and not access.may(actor, environment, access.DEPLOY):
        text = f"{prepared.environment} is restricted, and you are not on its list: this is for"
        yield Warning("restricted", f"{text} looking at, and somebody else may start it.")


def _approvers(prepared: Prepared) -> Iterator[Warning]:
    asked = [one for one in prepared.policy.get("approvals", []) if one.get("role")]
    if not asked:
        return
    known = {name.lower() for name in Role.objects.values_list("group__name", flat=True)}
    for one in asked:
        if one["role"].lower() not in known:
            text = f"There is no role {one['role']}, which is to approve “{one['name']}”."
            yield Warning("no_approver", text)


def of_reverting(
    prepared: Prepared, sites: Mapping[str, Site], actor: Actor
) -> tuple[Warning, ...]:
    """Return what is odd about going back to snapshots, where no step is undone."""
    changed = [one for one in prepared.deltas if one.operation is not Operation.NOOP]
    return (*_places(changed, sites, actor), *_width(prepared, sites))


def _title(path: str, sites: Mapping[str, Site]) -> str:
    site = sites.get(path)
    return site.container.name if site else path


def _undoing(changed: Sequence[DeltaView]) -> Iterator[Warning]:
    missing = [
        delta.deployed
        for delta in changed
        if delta.previous
        and delta.previous.type == "script"
        and not delta.previous.properties.get("undo")
    ]
    if missing:
        text = f"Without an undo script, what it did stays: {some(missing)}."
        yield Warning("no_undo", text)


def _replacing(changed: Sequence[DeltaView], sites: Mapping[str, Site]) -> Iterator[Warning]:
    replaced = [
        str(delta.previous.properties.get("vm_name", delta.deployed))
        for delta in changed
        if delta.previous
        and delta.value
        and delta.value.type == "vm"
        and is_replaced(change_of(delta, container_of(delta, sites)))
    ]
    if replaced:
        text = f"These VMs are deleted and made anew, with all that is in them: {some(replaced)}."
        yield Warning("vm_replaced", text)


def _places(
    changed: Sequence[DeltaView], sites: Mapping[str, Site], actor: Actor
) -> Iterator[Warning]:
    paths = list(dict.fromkeys(delta.container for delta in changed))
    troubled = [
        f"{sites[path].container.name} ({sites[path].trouble})"
        for path in paths
        if path in sites and sites[path].trouble
    ]
    if troubled:
        yield Warning("unreachable", f"Steps there are likely to fail: {some(troubled)}.")
    absent = [delta.container_name for delta in changed if delta.container not in sites]
    if absent:
        yield Warning("no_member", f"No longer in the environment: {some(absent)}.")
    foreign = []
    for path in paths:
        site = sites.get(path)
        if site is not None and site.vm is not None and not _may_use(actor, site.vm):
            foreign.append(site.container.name)
    if foreign:
        yield Warning("not_yours", f"You may not act on {some(foreign)}; steps there would fail.")


def _may_use(actor: Actor, vm: Any) -> bool:
    try:
        require_use(actor, vm)
    except Refusal:
        return False
    return True


def _capacity(changed: Sequence[DeltaView]) -> Iterator[Warning]:
    made = [one for one in changed if one.value and one.value.type == "vm" and not one.created_vm]
    ids = [str(one.value.properties["template_id"]) for one in made if one.value]
    known = {str(one.pk): one for one in Template.objects.filter(pk__in=ids)}
    wanted: dict[str, Counter[str]] = {}
    for one in made:
        assert one.value is not None
        template = known.get(one.value.properties["template_id"])
        if template is None:
            continue
        room = wanted.setdefault(one.container.partition(":")[2], Counter())
        for size in ("cpus", "memory_mib", "disk_gib"):
            room[size] += one.value.properties.get(size) or getattr(template, size)
    short = []
    rows = HostCapacity.objects.filter(host__in=[*map(UUID, wanted)]).select_related("host")
    for row in rows:
        for size, amount in wanted[str(row.host_id)].items():
            if amount > row.free(size):
                short.append(f"{row.host.name} ({size.partition('_')[0]})")
                break
    if short:
        yield Warning("no_capacity", f"There is no room now for the new VMs on {some(short)}.")


def _groups(
    prepared: Prepared, changed: Sequence[DeltaView], sites: Mapping[str, Site]
) -> Iterator[Warning]:
    for word, field in GROUPS.items():
        if not any(
            name.partition("{")[0].endswith(f"-by-{word}") for name in prepared.orchestrators
        ):
            continue
        missing = [
            delta.container_name
            for delta in changed
            if delta.container not in sites
            or getattr(sites[delta.container].container, field) is None
        ]
        there = {delta.container_name for delta in changed} - set(missing)
        if missing and there:
            text = f"Without a number of a {word.replace('-', ' ')}, so they come first: "
            yield Warning("group_missing", f"{text}{some(missing)}.")


# About the tree ---------------------------------------------------------------------------------


def _containers(block: Block) -> set[str]:
    return {path for leaf in block.leaves() for step in leaf.steps for path in _touched(step)}


def _touched(step: Any) -> set[str]:
    found = {path for _, path in step.deployeds}
    on = step.action.get("container") or {}
    found |= {f"{kind}:{pk}" for kind, pk in on.items() if kind in ("vm", "host")}
    return found


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for child in block.children:
        yield from _blocks(child)


def _concurrent(tree: Block, sites: Mapping[str, Site]) -> Iterator[Warning]:
    both: dict[str, None] = {}
    for block in _blocks(tree):
        if block.kind is not Kind.PARALLEL:
            continue
        counted = Counter(path for child in block.children for path in _containers(child))
        both |= {path: None for path, count in counted.items() if count > 1}
    # Several VMs of one host at once are what hosts are for.
    machines = [_title(path, sites) for path in both if path.startswith("vm:")]
    if machines:
        text = f"Branches that run at once both act on {some(machines)}."
        yield Warning("same_vm_at_once", text)


def _restarts(tree: Block, sites: Mapping[str, Site]) -> Iterator[Warning]:
    stops = Counter(
        path
        for leaf in tree.leaves()
        for step in leaf.steps
        if step.action.get("kind") in STOPPING
        for path in _touched_itself(step)
    )
    often = [f"{_title(path, sites)} ({count} times)" for path, count in stops.items() if count > 1]
    if often:
        yield Warning("repeated_restart", f"Stopped more than once: {some(often)}.")


def _touched_itself(step: Any) -> list[str]:
    on = step.action.get("container") or {}
    return [f"{kind}:{pk}" for kind, pk in on.items() if kind == "vm"]


def _stopped_guests(tree: Block, sites: Mapping[str, Site]) -> Iterator[Warning]:
    """Find steps inside a guest that the same leaf has stopped before."""
    found: dict[str, None] = {}
    for leaf in tree.leaves():
        stopped: set[str] = set()
        for step in leaf.steps:
            kind = step.action.get("kind")
            for path in _touched_itself(step):
                if kind in STOPPING:
                    stopped.add(path)
                elif kind == "vm.start":
                    stopped.discard(path)
                elif kind in IN_GUEST and path in stopped:
                    found[path] = None
    if found:
        names = some(_title(path, sites) for path in found)
        text = f"Stopped before steps inside the guest, which would fail: {names}."
        yield Warning("guest_stopped", text)


def _width(prepared: Prepared, sites: Mapping[str, Site]) -> Iterator[Warning]:
    limit = prepared.policy.get("max_unavailable")
    if limit is None or prepared.plan is None:
        return
    most = limit
    if isinstance(limit, str):
        most = max(1, len(sites) * int(limit.rstrip("%")) // 100)
    widest = _widest(prepared.plan)
    if widest > most:
        text = (
            f"Up to {widest} members would change at once; the environment allows {most}, so that"
            " some wait."
        )
        yield Warning("too_wide", text)


def _widest(block: Block) -> int:
    """Return on how many containers a block acts at once at most."""
    if block.is_leaf:
        return min(1, len(_containers(block)))
    widths = [_widest(child) for child in block.children]
    return sum(widths) if block.kind is Kind.PARALLEL else max(widths, default=0)


def _without_effect(prepared: Prepared) -> Iterator[Warning]:
    """Find orchestrators without which the plan would be the same."""
    assert prepared.plan is not None
    names, idle = prepared.orchestrators, []
    shape = _shape(prepared.plan)
    for place, name in enumerate(names):
        if name == "default":
            continue
        spec = replace(prepared.spec, orchestrators=(*names[:place], *names[place + 1 :]))
        other = plan(spec, registry.custom(settings.DEPLOYMENT_ORCHESTRATORS))
        if other is not None and _shape(other) == shape:
            idle.append(name)
    if idle:
        text = f"Without effect here, as the plan would be the same: {some(idle)}."
        yield Warning("without_effect", text)


def _shape(block: Block) -> tuple[Any, ...]:
    return (
        block.kind,
        tuple(_shape(child) for child in block.children),
        tuple(step.text for step in block.steps),
    )
