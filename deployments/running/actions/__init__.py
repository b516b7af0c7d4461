"""What steps do, by the kind of their action (docs/actions.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deployments.running.actions.base import Action as Action
from deployments.running.actions.base import Run as Run
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from deployments.models.tasks import Step

_actions: dict[str, Action] = {}


def register(kind: str, action: Action) -> None:
    """Let `action` do the steps of `kind` (`vm.start`)."""
    if kind in _actions:
        raise ValueError(f"The action {kind} is registered already.")
    _actions[kind] = action


def of(step: Step) -> Action:
    """Return what does `step`. Raises `Invalid` when nothing does."""
    try:
        return _actions[step.kind]
    except KeyError:
        raise Invalid(f"Nothing here does steps of the kind “{step.kind}”. Skip it.") from None


def kinds() -> list[str]:
    return sorted(_actions)
