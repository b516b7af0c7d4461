"""What a run of a step comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RETRY_SECONDS = 5.0
MAXIMUM_RETRIES = 4320  # six hours of them


@dataclass(frozen=True)
class Success:
    """It is done; `text` says what was reached."""

    text: str = ""
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """It has failed; `text` is a sentence that says what to do."""

    text: str
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pause:
    """A person has to do something; continuing the task runs the step again.

    `result` is what it then finds of this attempt.
    """

    text: str
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Retry:
    """Run the step again after a while; at most `MAXIMUM_RETRIES` times."""

    text: str
    seconds: float = RETRY_SECONDS


@dataclass(frozen=True)
class Busy:
    """It is under way: look again in `seconds`, with what is to be remembered until then."""

    seconds: float = 1.0
    memory: dict[str, Any] = field(default_factory=dict)
    blocks: bool = False  # the next look waits for somebody: not in the threads that never wait


Result = Success | Failure | Pause | Retry | Busy
