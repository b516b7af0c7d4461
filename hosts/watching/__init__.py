"""Following the events that hosts tell by themselves. Polling goes on beside it, whatever happens.

An event is a hint where to look: the host is asked, and what it says is recorded as by any poll.
"""

from .watcher import Watcher

__all__ = ["Watcher"]
