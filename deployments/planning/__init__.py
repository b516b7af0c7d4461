"""From deltas to a numbered plan: pure functions over frozen dataclasses (docs/planning.md).

Imports neither Django nor another room.
"""

from deployments.planning.model import (
    Block,
    Container,
    Context,
    Delta,
    Kind,
    Operation,
    PlanError,
    Rule,
    Spec,
    Step,
    leaf,
    parallel,
    serial,
)
from deployments.planning.pipeline import plan

__all__ = [
    "Block",
    "Container",
    "Context",
    "Delta",
    "Kind",
    "Operation",
    "PlanError",
    "Rule",
    "Spec",
    "Step",
    "leaf",
    "parallel",
    "plan",
    "serial",
]
