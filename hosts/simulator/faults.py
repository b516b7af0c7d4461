"""Faults: which request or host they hit, and what a broken answer looks like.

Every decision is a pure function of the seed, so a run can be repeated: request faults are drawn
by (seed, kind, host, n-th draw), host faults by the host's rank in an order made from the seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from typing import Any

REQUEST_KINDS = frozenset(
    {
        *("slow", "error500", "badjson", "wrongtype", "latecreate", "authexpired"),
        *("keepbundle", "keepname", "cuttransfer"),
    },
)
HOST_KINDS = frozenset({"refuse", "hang", "losejob", "failcreate", "clockskew"})
KINDS = REQUEST_KINDS | HOST_KINDS

CLOCK_SKEW_SECONDS = 600.0
"""How far ahead the clock of a host with ``clockskew`` is, unless control sets an offset."""


def draw(seed: int, *parts: object) -> float:
    """Return a number in [0, 1) that depends on the arguments only."""
    text = ":".join(str(part) for part in (seed, *parts))
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@cache
def _positions(seed: int, kind: str, count: int) -> dict[int, float]:
    order = sorted(range(1, count + 1), key=lambda k: draw(seed, kind, k))
    return {k: (rank + 0.5) / count for rank, k in enumerate(order)}


def host_is_hit(seed: int, kind: str, k: int, count: int, share: float) -> bool:
    """Tell whether host ``k`` of ``count`` belongs to the share that has this fault.

    The share is kept exactly (rounded), not merely on average: 0.3 of 10 hosts are 3 hosts.
    """
    return share > 0 and _positions(seed, kind, count)[k] < share


def parse_share(kind: str, value: Any) -> float:
    """Return ``value`` as a share of 0 to 1 (booleans count as all or none).

    Raises ``ValueError`` with a sentence for the user when the kind or the share is wrong.
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown fault “{kind}”. Use one of: {', '.join(sorted(KINDS))}.")
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"The share of fault “{kind}” must be a number from 0 to 1.")
    return share


def parse_faults(items: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """Return kind → share, without shares of 0; raises ``ValueError`` as ``parse_share``."""
    shares = {kind: parse_share(kind, value) for kind, value in items}
    return {kind: share for kind, share in shares.items() if share > 0}


def break_json(body: bytes) -> bytes:
    """Return an answer cut off in the middle: it never parses, whatever it was."""
    return b"{" + body[: max(1, len(body) // 2)]


def break_types(body: bytes) -> bytes:
    """Return valid JSON in which every value has a type that the contract does not allow."""
    return json.dumps(_other_type(json.loads(body))).encode()


def _other_type(value: Any) -> Any:
    match value:
        case dict():
            return {key: _other_type(item) for key, item in value.items()}
        case list():
            return {str(index): _other_type(item) for index, item in enumerate(value)}
        case bool() | None:
            return "perhaps"
        case int() | float():
            return f"about {value}"
        case _:
            return [value]
