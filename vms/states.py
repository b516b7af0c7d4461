"""The states of a VM's life, and which may follow which."""

from __future__ import annotations

from django.db import models


class State(models.TextChoices):
    PENDING = "pending"
    CREATING = "creating"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SUSPENDING = "suspending"
    SUSPENDED = "suspended"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    DELETING = "deleting"
    DELETED = "deleted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    FORGOTTEN = "forgotten"

    @classmethod
    def final(cls) -> list[str]:
        return [cls.DELETED, cls.FAILED, cls.CANCELLED, cls.FORGOTTEN]

    @classmethod
    def queued(cls) -> list[str]:
        """Return states in which the VM does not exist yet."""
        return [cls.PENDING, cls.CREATING]


S = State
_AT_REST = {S.RUNNING, S.STOPPED, S.SUSPENDED, S.PAUSED}
_END = {S.DELETING, S.FORGOTTEN}

MOVES: dict[str, frozenset[State]] = {
    # A pending VM was never made, so it ends without a host's proof.
    S.PENDING: frozenset({S.CREATING, S.CANCELLED, S.FAILED}),
    # Back to pending when the attempt came to nothing and another host may be tried.
    S.CREATING: frozenset(
        {S.PENDING, S.STARTING, S.RUNNING, S.STOPPED, S.FAILED, S.CANCELLED} | _END
    ),
    # A revocation may stop a VM that is just starting.
    S.STARTING: frozenset({S.RUNNING, S.STOPPING, S.STOPPED, S.SUSPENDED, S.PAUSED} | _END),
    S.RUNNING: frozenset(
        {S.STOPPING, S.SUSPENDING, S.PAUSING, S.STOPPED, S.SUSPENDED, S.PAUSED} | _END
    ),
    # A change that fails ends where the host saw the VM last, which may be anywhere.
    S.STOPPING: frozenset(_AT_REST | _END),
    S.STOPPED: frozenset({S.STARTING, S.RUNNING, S.SUSPENDED, S.PAUSED} | _END),
    S.SUSPENDING: frozenset(_AT_REST | _END),
    S.SUSPENDED: frozenset({S.STARTING, S.RESUMING, S.RUNNING, S.STOPPED, S.PAUSED} | _END),
    S.PAUSING: frozenset(_AT_REST | _END),
    S.PAUSED: frozenset(
        {S.RESUMING, S.STOPPING, S.SUSPENDING, S.RUNNING, S.STOPPED, S.SUSPENDED} | _END
    ),
    S.RESUMING: frozenset(_AT_REST | {S.STOPPING} | _END),
    # A VM that turned out never to have come into being ends cancelled or failed.
    S.DELETING: frozenset({S.DELETED, S.CANCELLED, S.FAILED, S.FORGOTTEN}),
    S.DELETED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
    S.FORGOTTEN: frozenset(),
}

AT_REST = frozenset(_AT_REST)

# In which states a verb is worth asking for: pages offer it then. The verb itself decides.
OFFERED: dict[str, frozenset[State]] = {
    "start": frozenset({S.STOPPED}),
    "resume": frozenset({S.SUSPENDED, S.PAUSED}),
    "stop": frozenset({S.RUNNING, S.PAUSED}),
    "suspend": frozenset({S.RUNNING}),
    "pause": frozenset({S.RUNNING}),
    "restart": frozenset({S.RUNNING}),
    "reset": frozenset({S.RUNNING}),
    "execute": frozenset({S.RUNNING}),
    "resize": frozenset({S.STOPPED}),
    "clone": frozenset({S.STOPPED}),
    "rename": AT_REST,
    "configure": AT_REST,
    "snapshot": AT_REST,
    "delete": frozenset(set(State) - {*State.final(), S.DELETING}),
}
