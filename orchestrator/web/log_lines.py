"""Our own log as those who may read it follow it: a line when it is written, in one sentence."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from orchestrator.scrub import scrub
from orchestrator.web.fleeting import LOGS, Sender

LONGEST = 1000  # characters of a line
# Said in fields of their own, or of no use to a reader; a trace stays where the process writes.
_LEFT_OUT = frozenset(
    {"event", "level", "logger", "timestamp", "exception", "exc_info", "stack", "stack_info"}
)


class LogLines(logging.Handler):
    """Offers every line, without what looks like a secret and without traces."""

    def __init__(self) -> None:
        super().__init__()
        self._sender = Sender(LOGS)

    def emit(self, record: logging.LogRecord) -> None:
        if not self._sender.is_heard:
            return
        try:
            self._sender.offer(json.dumps(line_of(record)))
        except Exception:  # a line that cannot be made must not end what it is about
            self.handleError(record)


def line_of(record: logging.LogRecord) -> dict[str, str]:
    """Return `{level, message, time}`; the message is the event and then its fields."""
    told: dict[str, Any] = record.msg if isinstance(record.msg, dict) else {}
    said = str(told.get("event", "")) if told else record.getMessage()
    fields = [f"{name}={value}" for name, value in told.items() if name not in _LEFT_OUT]
    return {
        "level": record.levelname.lower(),
        "message": scrub(" ".join([said, *fields]), limit=LONGEST),
        "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
    }
