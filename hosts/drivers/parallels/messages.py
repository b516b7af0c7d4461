"""What goes between the session, which knows the contract, and the transports, which know HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One HTTP request. `limit_seconds` bounds all, from connecting to the answer's last byte."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    content: bytes | None = field(repr=False)
    limit_seconds: float
    keep_bytes: int | None = None
    """Keep only so much of the end of the body, however long it is."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, read to its end. `received_at` (UNIX seconds) is when its head came."""

    status: int
    content_type: str
    date: str
    body: bytes = field(repr=False)
    received_at: float
    latency_ms: float
