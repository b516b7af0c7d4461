"""No request, and so no password, goes to an address that `orchestrator.addresses` forbids.

The end of the connection that is made is looked at, before anything is sent over it: a name that
leads elsewhere the second time it is looked up changes nothing.
"""

from __future__ import annotations

from typing import Any

import httpcore

from orchestrator.addresses import is_forbidden

SENTENCE = (
    "it leads to an address that no host may have: link-local, or where a cloud tells about its "
    "machines. Enter the host's own address."
)


class ForbiddenAddress(httpcore.ConnectError):
    """The connection ends where none may go; nothing was sent."""


def refuse_forbidden(stream: Any) -> None:
    """Raise `ForbiddenAddress` unless requests may go over this connection."""
    refuse_forbidden_end(stream.get_extra_info("server_addr"))


def refuse_forbidden_end(end: Any) -> None:
    """Raise `ForbiddenAddress` when `end`, as a socket names its peer, is where none may go."""
    if end and is_forbidden(str(end[0])):
        raise ForbiddenAddress(SENTENCE)
