"""Drivers: how hosts are spoken to.

The registry maps the name stored with a host to its implementation. A driver imports no other room.
"""

from __future__ import annotations

from collections.abc import Callable

from .addresses import normalise_fingerprint, normalise_url
from .base import (
    CREATE_LIMIT_SECONDS,
    CREATE_SYNC_LIMIT_SECONDS,
    DEFAULT_LIMITS,
    AsyncDriver,
    CachedImage,
    Connection,
    CreateAnswer,
    CreateSpec,
    Driver,
    ErrorKind,
    ExecuteResult,
    Hardware,
    HostError,
    HostJob,
    Inventory,
    Limits,
    News,
    RemoteVM,
    VMStatus,
)
from .parallels import AsyncParallelsDriver, ParallelsDriver

_DRIVERS: dict[
    str, tuple[Callable[[Connection, Limits], Driver], Callable[[Connection, Limits], AsyncDriver]]
] = {
    "parallels": (ParallelsDriver, AsyncParallelsDriver),
}


def driver_names() -> tuple[str, ...]:
    """The names that may be stored with a host."""
    return tuple(_DRIVERS)


def open_driver(name: str, connection: Connection, *, limits: Limits = DEFAULT_LIMITS) -> Driver:
    """Return a driver for threads; calls nothing. Raises `ValueError` for an unknown name."""
    return _entry(name)[0](connection, limits)


def open_async_driver(
    name: str, connection: Connection, *, limits: Limits = DEFAULT_LIMITS
) -> AsyncDriver:
    """Return a driver for an event loop; calls nothing. `ValueError` for an unknown name."""
    return _entry(name)[1](connection, limits)


def _entry(
    name: str,
) -> tuple[Callable[[Connection, Limits], Driver], Callable[[Connection, Limits], AsyncDriver]]:
    try:
        return _DRIVERS[name]
    except KeyError:
        raise ValueError(
            f"There is no driver {name!r}; use one of: {', '.join(_DRIVERS)}."
        ) from None


__all__ = [
    "CREATE_LIMIT_SECONDS",
    "CREATE_SYNC_LIMIT_SECONDS",
    "DEFAULT_LIMITS",
    "AsyncDriver",
    "CachedImage",
    "Connection",
    "CreateAnswer",
    "CreateSpec",
    "Driver",
    "ErrorKind",
    "ExecuteResult",
    "Hardware",
    "HostError",
    "HostJob",
    "Inventory",
    "Limits",
    "News",
    "RemoteVM",
    "VMStatus",
    "driver_names",
    "normalise_fingerprint",
    "normalise_url",
    "open_async_driver",
    "open_driver",
]
