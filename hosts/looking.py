"""Reads that a person waits for: they ask the host at once, with narrow limits, and store nothing.

They are the only calls to a host within a request, beside trying a connection. At most
`AT_ONCE` are under way in a process, so that a slow host holds few of its threads.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hosts.calls import driver_of
from hosts.drivers.base import HostError
from hosts.models import Health, Host
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accounts.actors import Actor
    from hosts.drivers.base import Driver, ReverseProxy

AT_ONCE = 2
MAXIMUM_LINES = 1000
LINES = 200

_places = threading.BoundedSemaphore(AT_ONCE)


def logs(actor: Actor, host: Host, lines: int = LINES) -> tuple[str, ...]:
    """Return the last `lines` of the host's log, without what looks like a secret.

    Raises `Forbidden`, `Invalid`, or `Conflict` when the host does not answer in time.
    """
    actor.require("hosts.logs")
    if not 1 <= lines <= MAXIMUM_LINES:
        raise Invalid.field("lines", f"Ask for 1 to {MAXIMUM_LINES} lines.")
    with asking(host) as driver:
        return driver.logs(lines)


def reverse_proxy(actor: Actor, host: Host) -> ReverseProxy | None:
    """Return what the host's reverse proxy does, or None when it has none. Raises as `logs`."""
    actor.require("hosts.view")
    with asking(host) as driver:
        return driver.reverse_proxy()


@contextmanager
def asking(host: Host) -> Iterator[Driver]:
    """Open the host's driver for calls of this request. Raises `Conflict`, as for its troubles."""
    if host.status.health == Health.UNREACHABLE:
        raise Conflict(f"{host.name} does not answer: {host.status.reason}", code="host_away")
    if not _places.acquire(blocking=False):
        raise Conflict("Other hosts are being asked just now. Try again.", code="busy")
    try:
        with driver_of(Host.objects.get(pk=host.pk)) as driver:  # now with its credentials
            yield driver
    except HostError as error:
        raise Conflict(f"{host.name}: {error.message}", code="host_failed") from error
    finally:
        _places.release()
