"""Who may act in which environment: asked, and taken in the transaction that relies on it.

What an account may do at all its roles say. An environment that is restricted asks, besides, that
the account or one of its roles is on its list with a level that is high enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounts.actors import Actor
from deployments.models import Environment, EnvironmentAccess
from orchestrator.db.locks import take as take_row
from orchestrator.refusals import Forbidden

if TYPE_CHECKING:
    from uuid import UUID

    from accounts.models import ApiToken, User
    from deployments.models.access import AccessQuerySet

CONTROL, DEPLOY, ADMINISTER = EnvironmentAccess.Level.values
EVERYWHERE = "deployments.everywhere"
# What each level lets one do, and which permission of a role that needs anyway.
MEANS = {
    CONTROL: ("control its tasks", "deployments.run"),
    DEPLOY: ("deploy to it", "deployments.run"),
    ADMINISTER: ("change it", "deployments.manage"),
}


def may(actor: Actor, environment: Environment | None, level: str) -> bool:
    """Return whether the environment lets the actor go as far as `level`, by what is so now.

    Says nothing about the permissions of roles. A task may outlive its environment (None).
    """
    if environment is None or actor.can(EVERYWHERE):
        return True
    if not _restricted(environment.pk):
        return True
    return _lines(actor, environment, level).exists()


def require(actor: Actor, environment: Environment | None, level: str) -> None:
    """Raise `Forbidden` unless the environment lets the actor go as far as `level`."""
    if not may(actor, environment, level):
        assert environment is not None
        raise _refusal(environment, level)


def take(actor: Actor, environment: Environment | None, level: str) -> None:
    """As `require`, and rely on it until the transaction ends. Call it after `actor.take`.

    A task's row, where one is locked, comes before it (docs/decisions/0004).
    """
    if environment is None or actor.can(EVERYWHERE):
        return
    if take_row(Environment.objects.filter(pk=environment.pk, restricted=False)):
        return
    for pk in _lines(actor, environment, level).order_by("pk").values_list("pk", flat=True):
        if take_row(EnvironmentAccess.objects.at_least(level).filter(pk=pk)):
            return
    raise _refusal(environment, level)


def require_change(actor: Actor, environment: Environment) -> None:
    """Raise `Forbidden` unless the actor may change `environment`, its members and its list."""
    actor.require("deployments.manage")
    require(actor, environment, ADMINISTER)


def take_change(actor: Actor, environment: Environment) -> None:
    """As `require_change`, until the transaction ends. Call it after `actor.take`."""
    actor.require("deployments.manage")
    take(actor, environment, ADMINISTER)


def _restricted(pk: UUID) -> bool:
    return Environment.objects.filter(pk=pk, restricted=True).exists()


def _lines(actor: Actor, environment: Environment, level: str) -> AccessQuerySet:
    return EnvironmentAccess.objects.filter(environment=environment).reaching(actor).at_least(level)


def _refusal(environment: Environment, level: str) -> Forbidden:
    return Forbidden(
        f"{environment.name} is restricted, and you are not on its list of those who may "
        f"{MEANS[level][0]}. Ask somebody who administers it.",
        code="environment_restricted",
    )


# Who can do what --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reach:
    """How far an account can go in one environment, and why."""

    environment: Environment
    levels: list[str]  # of `EnvironmentAccess.Level`; empty: it sees it at most
    why: str


def reach_of(viewer: Actor, user: User, token: ApiToken | None = None) -> list[Reach]:
    """Return how far `user`, by `token` if given, can go in each environment that the viewer sees.

    Answers from the same places as `require` does.
    """
    asker = Actor(user, token)
    lines: dict[UUID, list[EnvironmentAccess]] = {}
    for line in EnvironmentAccess.objects.reaching(asker).for_page():
        lines.setdefault(line.environment_id, []).append(line)
    rows = Environment.objects.visible_to(viewer).order_by("name")
    return [_reach(asker, one, lines.get(one.pk, [])) for one in rows]


def _reach(asker: Actor, environment: Environment, lines: list[EnvironmentAccess]) -> Reach:
    ranks = EnvironmentAccess.Level.values
    best = max(lines, key=lambda line: ranks.index(line.level), default=None)
    allowed = [level for level in ranks if asker.can(MEANS[level][1])]
    if not allowed:
        return Reach(environment, [], "No role lets it deploy or change environments.")
    if not environment.restricted:
        return Reach(environment, allowed, "Its roles allow it; the environment is open.")
    if asker.can(EVERYWHERE):
        return Reach(environment, allowed, "A role lets it act in every environment.")
    if best is None:
        return Reach(environment, [], "It is not on the list of this restricted environment.")
    high = ranks[: ranks.index(best.level) + 1]
    by = f"by its role {best.role.name}" if best.role else "by itself"
    return Reach(
        environment,
        [level for level in allowed if level in high],
        f"It is on the list {by}: {best.get_level_display().lower()}.",
    )
