"""From a package and an environment to a plan: `prepare` and `prepare_rollback`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deployments import (
    building,
    concerns,
    deltas,
    dictionaries,
    environments,
    policies,
    selection,
    templates,
)
from deployments.deltas import Comparison, Wanted
from deployments.models import Application, Dictionary, Environment, Package
from deployments.planning import Operation
from deployments.prepared import Prepared
from deployments.resolution import LATEST
from deployments.rollback import BY as BY
from deployments.rollback import SNAPSHOTS as SNAPSHOTS
from deployments.rollback import STEPS as STEPS
from deployments.rollback import last_of as last_of
from deployments.rollback import prepare_rollback as prepare_rollback
from deployments.whole import FLAGS, Whole
from deployments.whole import tree_of as tree_of
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from accounts.actors import Actor

DEPLOY, UNDEPLOY = "deploy", "undeploy"
ORCHESTRATOR_KEY = "udm.DeployedApplication.orchestrator"  # of a dictionary, separated by commas
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
    environment = environments.fresh(environment.pk)
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
    whole = Whole(environment, wanted, taking_part, sites, root.operation, names, given)
    policy = _policy_of(root)
    return whole.prepared(
        kind=KINDS[root.operation],
        orchestrators_from=source,
        mapping=comparison.mapping,
        policy=policies.merged(policy, environment.policy),
        notes=concerns.of_selection(comparison, root, environments.gone(environment)),
        actor=actor,
    )


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
