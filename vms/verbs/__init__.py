"""Verbs on a VM that exists. Each is a job."""

from vms.verbs.executing import ExecuteHandler, execute
from vms.verbs.states import StartHandler, StopHandler, SuspendHandler, start, stop, suspend

__all__ = [
    "ExecuteHandler",
    "StartHandler",
    "StopHandler",
    "SuspendHandler",
    "execute",
    "start",
    "stop",
    "suspend",
]
