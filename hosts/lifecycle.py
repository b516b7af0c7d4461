"""What rooms above do when a host's list arrives, its health changes, it has room, it tells news,
or is removed.

Entries run in the caller's transaction, in the order in which they were registered, and call no
host: they enqueue jobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from accounts.actors import Actor
    from hosts.drivers.base import Inventory, News
    from hosts.models import Host


@dataclass(frozen=True)
class Listing:
    """A complete answer of a host, with the database's time at which the request began.

    `counts` is False for an empty list from a host that had VMs a moment ago, until a second list
    agrees: then nothing may be concluded from what it lacks.
    """

    began_at: datetime
    inventory: Inventory
    counts: bool = True


class OnInventory(Protocol):
    def __call__(self, host: Host, listing: Listing) -> set[str]:
        """Return the host's VM ids that are claimed by us."""


class BeforeRemoval(Protocol):
    def __call__(self, host: Host, forget_vms: bool, actor: Actor) -> None:
        """Let go of the host, or raise `Conflict` with what stands in the way."""


class OnHealthChange(Protocol):
    def __call__(self, host: Host, before: str, after: str) -> None: ...


class OnAvailable(Protocol):
    def __call__(self, host: Host) -> None:
        """A host may have become able to take VMs: a hold ended, it is healthy, or it grew."""


class OnNews(Protocol):
    def __call__(self, host: Host, news: News) -> None:
        """The host told that something changed: look sooner at what waits for it."""


on_inventory: list[OnInventory] = []
before_removal: list[BeforeRemoval] = []
on_health_change: list[OnHealthChange] = []
on_available: list[OnAvailable] = []
on_news: list[OnNews] = []


def register(
    inventory: OnInventory | None = None,
    removal: BeforeRemoval | None = None,
    health: OnHealthChange | None = None,
    available: OnAvailable | None = None,
    news: OnNews | None = None,
) -> None:
    """Add one room's entries."""
    if inventory:
        on_inventory.append(inventory)
    if removal:
        before_removal.append(removal)
    if health:
        on_health_change.append(health)
    if available:
        on_available.append(available)
    if news:
        on_news.append(news)


def tell_available(host: Host) -> None:
    """Tell the rooms above that the host may have become able to take VMs."""
    for entry in on_available:
        entry(host)
