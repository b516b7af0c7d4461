"""What a host tells of itself that is only passed on: bounded, flat, without what looks secret."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hosts.drivers.base import Report, Topic

from .reading import Node, clean

MOST_FIELDS = 20
LONGEST_NAME = 40
LONGEST_TEXT = 1000
_STATS = frozenset(
    {
        *("memory_bytes", "memory_alloc_bytes", "cpu_user_seconds", "cpu_system_seconds"),
        *("cpu_percent", "goroutines", "goroutines_smoothed"),
    }
)
_LOG = frozenset({"level", "message", "time"})
# By type and message of the hub (contract 2.9): the topic, and which fields (None: any).
_KNOWN: dict[tuple[str, str], tuple[Topic, frozenset[str] | None]] = {
    ("stats", "System Stats"): ("stats", _STATS),
    ("system_logs", "System Log"): ("log", _LOG),
    ("reverse_proxy", "REVERSE_PROXY_STATE_CHANGED"): ("proxy", None),
    ("reverse_proxy", "REVERSE_PROXY_HOST_STATE_CHANGED"): ("proxy", None),
    ("reverse_proxy", "Reverse Proxy Route Updated"): ("proxy", None),
    ("reverse_proxy", "Reverse Proxy Route Failed"): ("proxy", None),
    ("reverse_proxy", "HTTP Traffic Forwarded"): ("traffic", None),
    ("reverse_proxy", "TCP Traffic Forwarded"): ("traffic", None),
}


def report_of(document: Any, hide: Callable[[str], str]) -> Report | None:
    """Return what an event of the hub reports, texts through `hide`; None for other events.

    Raises `WrongAnswer`. Of a body only fields with a plain value count, as many as are usual.
    """
    node = Node.of(document)
    name = node.text("message", "")
    known = _KNOWN.get((node.text("event_type", ""), name))
    if known is None:
        return None
    topic, fields = known
    body: dict[str, str | int | float | bool] = {}
    for key, value in node.child("body").values.items():
        if len(body) == MOST_FIELDS or len(key) > LONGEST_NAME or not key.isprintable():
            continue
        if fields is not None and key not in fields:
            continue
        if isinstance(value, str):
            body[clean(key)] = hide(value[: LONGEST_TEXT * 2])
        elif isinstance(value, bool | int | float) and abs(value) <= 2**53:
            body[clean(key)] = value
    return Report(topic, name, body)
