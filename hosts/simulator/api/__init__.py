"""The HTTP API of a host. Importing this package registers every route."""

from __future__ import annotations

from hosts.simulator.api import bundles, catalog, jobs, looks, machines, snapshots, system
from hosts.simulator.api.routing import answer

__all__ = ["answer", "bundles", "catalog", "jobs", "looks", "machines", "snapshots", "system"]
