"""From a package and an environment to a plan: `prepare` and `prepare_rollback`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.conf import settings

from deployments import (
    building,
    concerns,
    deltas,
    dictionaries,
    environments,
    packages,
    policies,
    selection,
    templates,
)
from deployments.deltas import Comparison, Wanted
from deployments.models import Application, Dictionary, Environment, Package
from deployments.planning import Block, Operation, PlanError, Spec, plan, registry
from deployments.prepared import DeltaView, Part, Prepared, Reached, Warning
from deployments.resolution import LATEST
from orchestrator.refusals import Invalid, NotFound

if TYPE_CHECKING:
    from accounts.actors import Actor
    from deployments.environments import Site

DEPLOY, UNDEPLOY = "deploy", "undeploy"
ORCHESTRATOR_KEY = "udm.DeployedApplication.orchestrator"  # of a dictionary, separated by commas
FLAGS = ("force_redeploy", "undeploy_dependencies", "optimize", "split")
OWN_OPTIONS = (*FLAGS, "resolution")
KINDS = {
    Operation.CREATE: "initial",
    Operation.MODIFY: "update",
    Operation.DESTROY: "undeploy",
}


def prepare(
    *,
    actor: Actor,
    environment: Environment,
    package: Package | None = None,
    application: Application | None = None,
    operation: str = DEPLOY,
    mapping: Mapping[str, Sequence[str]] | None = None,
    orchestrators: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Prepared:
    """Return what deploying `package` to `environment`, or undeploying, would do. Writes nothing.

    `operation` is `deploy` (initial or update, as the record says) or `undeploy` (then
    `application`, or the application of `package`, goes). `mapping` is deployable → paths of
    containers, and replaces what types and tags give. `orchestrators` None: those of the package,
    else of a dictionary. `options`: `force_redeploy`, `resolution` (latest, existing),
    `undeploy_dependencies`, `optimize`, and parameters of orchestrators.

    Raises `Forbidden`, `NotFound`, and `Invalid` or `Conflict` with a sentence for whatever cannot
    be planned.
    """
    actor.require("deployments.view")
    given = checked(options or {})
    environment = fresh(environment.pk)
    records = selection.records_of(environment)
    if operation == UNDEPLOY:
        going = application or (package.application if package else None)
        if going is None:
            raise Invalid.field("application", "Say which application is to be undeployed.")
        wanted, taking_part = selection.to_undeploy(
            going,
            environment,
            records,
            with_dependencies=bool(given.get("undeploy_dependencies", False)),
        )
    elif operation == DEPLOY:
        if package is None:
            raise Invalid.field("package", "Say which package is to be deployed.")
        wanted, taking_part = selection.to_deploy(
            package, records, strategy=given.get("resolution", LATEST)
        )
    else:
        raise Invalid.field("operation", f"Give one of {DEPLOY}, {UNDEPLOY}.")
    sites = environments.sites(environment)
    values = environments.dictionaries_of(environment)
    comparison = Comparison(
        environment, sites, values, mapping=mapping, force=bool(given.get("force_redeploy"))
    )
    for one in wanted:
        comparison.compare(one)
    _refuse_unknown(mapping, comparison)
    comparison.refuse()
    for one in wanted:
        one.deltas[:] = [templates.find(actor, delta) for delta in one.deltas]
    every = [delta for one in wanted for delta in one.deltas]
    own = {one.record.pk for one in wanted if one.record}
    deltas.refuse_taken(environment, every, own)
    root = building.wanted_root(wanted)
    names, source = _orchestrators(orchestrators, root, comparison, values)
    whole = _Whole(environment, wanted, taking_part, sites, root.operation, names, given)
    policy = _policy_of(root)
    return whole.prepared(
        kind=KINDS[root.operation],
        orchestrators_from=source,
        mapping=comparison.mapping,
        policy=policies.merged(policy, environment.policy),
        notes=concerns.of_selection(comparison, root, environments.gone(environment)),
        actor=actor,
    )


def fresh(pk: Any) -> Environment:
    """Return an environment as it is now: policy and balancers count for the fingerprint."""
    found = Environment.objects.filter(pk=pk).first()
    if found is None:
        raise NotFound("This environment is not there any more.")
    return found


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a deployment; raises `Invalid`. Others are for orchestrators."""
    for name in FLAGS:
        if not isinstance(options.get(name, False), bool):
            raise Invalid.field("options", f"“{name}” is true or false.")
    return {name: one for name, one in options.items() if one is not None}


def _refuse_unknown(mapping: Mapping[str, Any] | None, comparison: Comparison) -> None:
    if unknown := sorted(set(mapping or {}) - set(comparison.mapping)):
        raise Invalid.field(
            "mapping", f"The package has no deployable {', '.join(unknown)}; correct the mapping."
        )


def _policy_of(root: Wanted) -> Mapping[str, Any]:
    package = root.package or (root.record.package if root.record else None)
    return package.policy if package else {}


def _orchestrators(
    given: Sequence[str] | None,
    root: Wanted,
    comparison: Comparison,
    values: Sequence[Dictionary],
) -> tuple[tuple[str, ...], str]:
    """Return the orchestrators and where they come from (section 1.6 of the rules)."""
    if given is not None:
        return tuple(given), "deployment"
    if root.package is None:  # undeploying: those of the last deployment, unless told otherwise
        return tuple(root.record.orchestrators if root.record else ()), "record"
    entries = dictionaries.entries_for(values, (root.application,), None)
    resolver = dictionaries.Resolver(entries, comparison.builtin(root))
    if root.package.orchestrators:
        found, source = [resolver.resolved(one) for one in root.package.orchestrators], "package"
    elif ORCHESTRATOR_KEY in resolver.entries:
        text = resolver.value(ORCHESTRATOR_KEY) or ""
        found, source = separated(text), "dictionary"
    else:
        return (), "default"
    if resolver.missing:
        raise Invalid(
            f"The orchestrators have the placeholder {{{{{min(resolver.missing)}}}}}, which has no"
            f" value on {comparison.environment}. Put it into a dictionary.",
            code="placeholder_without_value",
        )
    if resolver.secrets:
        raise Invalid("The name of an orchestrator is no secret; use a plain value for it.")
    return tuple(found), source


def separated(text: str) -> list[str]:
    """Return names of orchestrators that stand between commas, outside of braces."""
    found, depth, start = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign in "{[") - (sign in "}]")
        if sign == "," and depth == 0:
            found.append(text[start:place])
            start = place + 1
    found.append(text[start:])
    return [one.strip() for one in found if one.strip()]


@dataclass(frozen=True)
class _Whole:
    """Everything that a plan is made of."""

    environment: Environment
    wanted: Sequence[Wanted]
    taking_part: Mapping[str, Package]
    sites: Mapping[str, Site]
    operation: Operation
    orchestrators: Sequence[str]
    options: Mapping[str, Any]

    def prepared(
        self,
        *,
        kind: str,
        orchestrators_from: str,
        mapping: Mapping[str, list[str]],
        policy: Mapping[str, Any],
        notes: Sequence[Warning],
        actor: Actor,
    ) -> Prepared:
        for_planner = {
            name: one
            for name, one in self.options.items()
            if name not in OWN_OPTIONS or name in ("optimize", "split")
        }
        spec = building.spec_of(
            self.wanted,
            self.taking_part,
            self.sites,
            operation=self.operation,
            environment=self.environment.name,
            orchestrators=self.orchestrators,
            options=for_planner,
        )
        tree = planned(spec)
        if tree is not None:
            tree = building.balanced(tree, self.environment.balancers)
        root = building.wanted_root(self.wanted)
        found = Prepared(
            kind=kind,
            environment_id=self.environment.pk,
            environment=self.environment.name,
            title=spec.label if kind != "rollback" else f"Roll back: {spec.label}",
            operation=self.operation,
            spec=spec,
            plan=tree,
            parts=tuple(
                part_of(one, self.orchestrators) for one in (root, *_without(self.wanted, root))
            ),
            deltas=tuple(delta for one in self.wanted for delta in one.deltas),
            mapping=mapping,
            orchestrators=tuple(self.orchestrators),
            orchestrators_from=orchestrators_from,
            options=self.options,
            policy=policy,
            warnings=(),
            fingerprint="",
        )
        warned = (*notes, *concerns.of_plan(found, self.sites, actor))
        return replace(found, warnings=warned, fingerprint=fingerprint(found))


def _without(wanted: Sequence[Wanted], root: Wanted) -> list[Wanted]:
    return [one for one in wanted if one is not root]


def part_of(one: Wanted, orchestrators: Sequence[str]) -> Part:
    before = tuple(one.record.orchestrators) if one.record else ()
    to_record = one.orchestrators
    if to_record is None:
        to_record = before if one.as_dependency else tuple(orchestrators)
    return Part(
        one.application.name,
        str(one.application.pk),
        one.operation,
        str(one.package.pk) if one.package else None,
        str(one.record.package_id) if one.record else None,
        one.title,
        # What a person once chose stays chosen, though another application needs it, too.
        one.as_dependency and (one.record is None or one.record.as_dependency),
        to_record,
        before,
    )


def planned(spec: Spec) -> Block | None:
    """Return the plan; the planner's refusals become ours."""
    try:
        return plan(spec, registry.custom(settings.DEPLOYMENT_ORCHESTRATORS))
    except PlanError as error:
        raise Invalid(str(error), code="cannot_plan", errors={"orchestrators": [str(error)]}) from (
            None
        )


def fingerprint(prepared: Prepared) -> str:
    """Return a digest of all that a deployment does: another one means that something changed.

    Whatever a plan depends on shows in its deltas, its steps or its policy; a changed secret by
    its revision.
    """
    whole = {
        **prepared.as_json(),
        "fingerprint": "",
        "plan": tree_of(prepared.plan) if prepared.plan else None,
    }
    text = json.dumps(whole, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def tree_of(block: Block) -> dict[str, Any]:
    """Return a plan as JSON, with all of its steps."""
    return {
        "kind": block.kind.value,
        "label": block.label,
        "made_by": block.made_by,
        "key": block.key,
        "children": [tree_of(child) for child in block.children],
        "steps": [
            {
                "number": step.number,
                "order": step.order,
                "text": step.text,
                "deployeds": [list(pair) for pair in step.deployeds],
                "action": dict(step.action),
                "checkpoint": step.checkpoint,
            }
            for step in block.steps
        ],
    }


# Rolling back -----------------------------------------------------------------------------------


def prepare_rollback(
    *,
    actor: Actor,
    prepared: Mapping[str, Any],
    reached: Iterable[Reached] | None,
    created: Mapping[tuple[str, str], str] | None = None,
) -> Prepared:
    """Return what takes back a deployment: `prepared` is its `as_json()`.

    `reached` are the checkpoints that it passed, in order; None: all. `created` are the ids of VMs
    that its steps `vm.create` made. Record the original first (`deployed.record`), whatever it
    reached: a rollback changes the record only as far as it gets itself.
    """
    actor.require("deployments.view")
    environment = fresh(prepared["environment"])
    done = None if reached is None else last_of(reached)
    made = created or {}
    original = Operation(prepared["operation"])
    by_name: dict[str, list[DeltaView]] = {}
    for data in prepared["deltas"]:
        one = inverse(DeltaView.from_json(data), done, made)
        if one is not None:
            by_name.setdefault(one.application, []).append(one)
    records = selection.records_of(environment)
    wanted = []
    for data in prepared["parts"]:
        part = Part.from_json(data)
        target = _package(part.previous)
        record = records.get(part.application.lower())
        application = Application.objects.get(pk=part.application_id)
        wanted.append(
            Wanted(
                application,
                target,
                record,
                as_dependency=data is not prepared["parts"][0],
                orchestrators=part.previous_orchestrators,
                members=packages.flattened(target)[0] if target else [],
                deltas=by_name.get(part.application, []),
            )
        )
    operation = {
        Operation.CREATE: Operation.DESTROY,
        Operation.MODIFY: Operation.MODIFY,
        Operation.DESTROY: Operation.CREATE,
    }[original]
    root = Part.from_json(prepared["parts"][0])
    taking_part = {}
    for data in prepared["parts"]:
        part = Part.from_json(data)
        if shown := _package(part.package) or _package(part.previous):
            taking_part[part.application.lower()] = shown
    sites = environments.sites(environment)
    whole = _Whole(
        environment,
        wanted,
        taking_part,
        sites,
        operation,
        prepared["orchestrators"],
        {**prepared["options"], "force_redeploy": False},
    )
    shown = _package(root.previous) or _package(root.package)
    return whole.prepared(
        kind="rollback",
        orchestrators_from="record",
        mapping={},
        policy=policies.merged(shown.policy if shown else {}, environment.policy),
        notes=(),
        actor=actor,
    )


def _package(pk: str | None) -> Package | None:
    return Package.objects.whole().filter(pk=pk).first() if pk else None


def last_of(reached: Iterable[Reached]) -> dict[tuple[str, str], str]:
    """Return the last checkpoint of each deployed; empty text for the one of its operation."""
    return {(one.deployed, one.container): one.operation for one in reached}


def inverse(
    delta: DeltaView, done: Mapping[tuple[str, str], str] | None, made: Mapping[Any, str]
) -> DeltaView | None:
    """Return the change that takes a delta back, as far as it was made; None: nothing of it was.

    What was not reached keeps its place with nothing to do.
    """
    operation = delta.operation
    vm = made.get(delta.key, delta.created_vm)
    if done is not None:
        if delta.key not in done and operation is not Operation.NOOP:
            if operation is Operation.CREATE:
                return None
            return replace(delta, operation=Operation.NOOP, value=delta.previous, forced=False)
        passed = done.get(delta.key, "")
        if operation is Operation.MODIFY and passed == Operation.DESTROY.value:
            # Only its first half was done: it is gone, and has to come again.
            return replace(
                delta,
                operation=Operation.CREATE,
                previous=None,
                value=delta.previous,
                created_vm="",
                forced=False,
            )
    match operation:
        case Operation.CREATE:
            return replace(
                delta,
                operation=Operation.DESTROY,
                previous=delta.value,
                value=None,
                created_vm=vm,
            )
        case Operation.DESTROY:
            return replace(
                delta,
                operation=Operation.CREATE,
                previous=None,
                value=delta.previous,
                created_vm="",
            )
        case _:
            return replace(delta, previous=delta.value, value=delta.previous, created_vm=vm)
