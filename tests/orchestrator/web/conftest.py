from __future__ import annotations

from tests.orchestrator.web.served.fixtures import own_served, served

__all__ = ["own_served", "served"]
