"""The configuration of a host's reverse proxy: read from the host, and changed there, at once.

Nothing of it is stored here. Each call is short, and few are under way at a time (`hosts.looking`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db import transaction

from accounts.audit import audit
from events.publishing import publish
from hosts.drivers.base import ErrorKind, HostError
from hosts.looking import asking
from orchestrator.refusals import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accounts.actors import Actor
    from hosts.models import Host

LARGEST_BODY = 64 * 1024  # bytes of JSON
HIDDEN = "****"


def read(actor: Actor, host: Host) -> dict[str, Any]:
    """Return where the host's reverse proxy listens: `{enabled, host, port}`.

    Raises `Forbidden` without `hosts.view`, `NotFound` when it has none, `Conflict` for its
    troubles.
    """
    actor.require("hosts.view")
    found = _call(host, "GET", ())
    return found if isinstance(found, dict) else {}


def proxy_hosts(actor: Actor, host: Host) -> list[dict[str, Any]]:
    """Return what it listens at, without private keys. Raises as `read`."""
    actor.require("hosts.view")
    found = _call(host, "GET", ("hosts",))
    return [_without_keys(one) for one in found or () if isinstance(one, dict)]


def proxy_host(actor: Actor, host: Host, reference: str) -> dict[str, Any]:
    """Return one of them by its id or by its `address:port`. Raises as `read`."""
    for one in proxy_hosts(actor, host):
        if reference in (one.get("id"), f"{one.get('host')}:{one.get('port')}"):
            return one
    raise NotFound(f"Reverse proxy host {reference} not found")


def change(
    actor: Actor, host: Host, method: str, parts: Sequence[str], body: Any = None
) -> dict[str, Any] | None:
    """Send a change to the host's reverse proxy, and return what the host answers.

    `parts` are the path below the proxy's root. Needs `hosts.manage`. Audited, without what is in
    `body`, which may have a private key. Raises `Forbidden`, `Invalid`, `NotFound`, `Conflict`.
    """
    actor.require("hosts.manage")
    if len(json.dumps(body)) > LARGEST_BODY:
        raise Invalid(f"Send at most {LARGEST_BODY} bytes of configuration.")
    answer = _call(host, method, parts, body)
    with transaction.atomic():
        data = {"method": method, "path": "/".join(parts)[:200]}
        audit(actor, "host.reverse_proxy_changed", host.subject, host.name, data=data)
        publish(
            "host.reverse_proxy_changed", host.subject, {"name": host.name}, permission="hosts.view"
        )
    return _without_keys(answer) if isinstance(answer, dict) else None


def _call(host: Host, method: str, parts: Sequence[str], body: Any = None) -> Any:
    with asking(host) as driver:
        try:
            return driver.relay_reverse_proxy(method, parts, body)
        except HostError as error:
            if error.kind != ErrorKind.NOT_FOUND:
                raise
            raise NotFound(f"{host.name} has no such part of a reverse proxy.") from error


def _without_keys(found: dict[str, Any]) -> dict[str, Any]:
    tls = found.get("tls")
    if isinstance(tls, dict) and tls.get("key"):
        return found | {"tls": tls | {"key": HIDDEN}}
    return found
