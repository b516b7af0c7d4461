"""The log of a host as it grows: hosts are asked for its end again and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from django.db import connections

from compat.machines import finding
from hosts import looking
from orchestrator.refusals import Conflict, Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from compat.events.guard import Watcher

PAUSE_SECONDS = 3.0
LINES = 200


async def follow(watcher: Watcher, host: str) -> AsyncIterator[str]:
    """Yield the last lines of a host's log, and then those that come. Ends when it may not go on.

    While the host does not answer, or others ask it, nothing comes; then it goes on.
    """
    known: list[str] = []
    while True:
        try:
            # Not one of the front's few threads: a host may take its time.
            lines = await asyncio.to_thread(_read, watcher, host)
        except Conflict:
            lines = known
        except Refusal:
            return
        for line in new_lines(known, lines):
            yield line
        known = lines
        await asyncio.sleep(PAUSE_SECONDS)


def new_lines(known: list[str], lines: list[str]) -> list[str]:
    """Return what `lines` has behind the longest end of `known` with which it begins."""
    for start in range(len(known)):
        if known[start:] == lines[: len(known) - start]:
            return lines[len(known) - start :]
    return lines


def _read(watcher: Watcher, host: str) -> list[str]:
    try:
        actor = watcher.actor()
        return list(looking.logs(actor, finding.host_named(actor, host), LINES))
    finally:
        connections.close_all()
