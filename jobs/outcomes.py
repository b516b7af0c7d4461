"""What a step returns.

An `effect` changes the domain's rows in the transaction that settles the step: both happen or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Effect = Callable[[], None]


@dataclass(frozen=True)
class Done:
    """The job is finished. `result` is what its caller reads."""

    result: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    effect: Effect | None = None


@dataclass(frozen=True)
class Again:
    """Run again in `seconds`, at `step` (the same one by default).

    `payload` is merged into the job's. `failed` counts this run as a failed try, `message` then
    says why.
    """

    seconds: float = 0
    step: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    progress: int | None = None
    message: str | None = None
    failed: bool = False
    lane: str | None = None
    parked: bool = False  # wait until `jobs.queueing.proceed`
    effect: Effect | None = None

    @property
    def waits(self) -> bool:
        return bool(self.seconds or self.parked)


@dataclass(frozen=True)
class Fail:
    """The job has failed for good; `error` is a sentence that says what to do."""

    error: str
    result: dict[str, Any] = field(default_factory=dict)
    effect: Effect | None = None


@dataclass(frozen=True)
class Cancelled:
    """What was under way is undone."""

    message: str = ""


Outcome = Done | Again | Fail | Cancelled
