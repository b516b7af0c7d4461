from __future__ import annotations

from tests.vms.conftest import pool, worker

__all__ = ["pool", "worker"]
