"""One round of polling. Beat starts one each second; any number may run at once."""

from __future__ import annotations

import time

from hosts.polling.asking import ask
from hosts.polling.claims import claim_shard
from hosts.polling.writing import give_up_unreadable, write

TICK_SECONDS = 20.0


def tick() -> int:
    """Poll due hosts, shard by shard, until none is due or the time is over; return how many."""
    ends = time.monotonic() + TICK_SECONDS
    polled = 0
    while time.monotonic() < ends and (shard := claim_shard()):
        give_up_unreadable(shard)
        for answers in ask(shard.due, shard.clock):
            write(shard, answers)
        polled += len(shard.due)
    return polled
