"""The last part of preparing: from deltas to the plan, its warnings and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.conf import settings

from deployments import building, concerns, reverting
from deployments.deltas import Wanted
from deployments.models import Environment, Package
from deployments.planning import Block, Operation, PlanError, Spec, plan, registry
from deployments.prepared import DeltaView, Part, Prepared, Warning
from deployments.reverting import Revert
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from accounts.actors import Actor
    from deployments.environments import Site

FLAGS = ("force_redeploy", "undeploy_dependencies", "optimize", "split")
OWN_OPTIONS = (*FLAGS, "resolution", "rollback_by")


@dataclass(frozen=True)
class Whole:
    """Everything that a plan is made of."""

    environment: Environment
    wanted: Sequence[Wanted]
    taking_part: Mapping[str, Package]
    sites: Mapping[str, Site]
    operation: Operation
    orchestrators: Sequence[str]
    options: Mapping[str, Any]
    # Back to these snapshots, instead of by steps for each delta.
    reverts: Sequence[Revert] | None = None

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
        changed = tuple(delta for one in self.wanted for delta in one.deltas)
        tree = self._tree(spec, changed)
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
                part_of(one, self.orchestrators) for one in (root, *others_than(root, self.wanted))
            ),
            deltas=changed,
            mapping=mapping,
            orchestrators=tuple(self.orchestrators),
            orchestrators_from=orchestrators_from,
            options=self.options,
            policy=policy,
            warnings=(),
            fingerprint="",
        )
        look = concerns.of_plan if self.reverts is None else concerns.of_reverting
        warned = (*notes, *look(found, self.sites, actor))
        return replace(found, warnings=warned, fingerprint=fingerprint(found))

    def _tree(self, spec: Spec, deltas: Sequence[DeltaView]) -> Block | None:
        if self.reverts is not None:
            return reverting.tree_of(spec.label, self.reverts, deltas)
        tree = planned(spec)
        return building.balanced(tree, self.environment.balancers) if tree else None


def others_than(root: Wanted, wanted: Sequence[Wanted]) -> list[Wanted]:
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
