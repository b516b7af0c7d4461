from __future__ import annotations

from tests.e2e.conftest import own_redis, product
from tests.vms.conftest import pool, worker

__all__ = ["own_redis", "pool", "product", "worker"]
