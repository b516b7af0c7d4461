"""The secrets of what is said to a host, which it must not bring into a message."""

from __future__ import annotations

from orchestrator.scrub import scrub as scrub


def connection_secrets(connection: str) -> tuple[str, ...]:
    """The parts of a catalog connection string (contract 4.3) that must not be repeated."""
    if not connection:
        return ()
    secrets = [connection]
    for part in connection.split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() == "host":
            secrets.append(value.rpartition("@")[0].partition(":")[2])  # user:password@address
            before_scheme = value.partition("://")[0]
            secrets.append(before_scheme.rpartition("@")[0].partition(":")[2])
        elif name.lower() not in {"provider", "bucket", "region"}:
            secrets.append(value)
    return tuple(secrets)
