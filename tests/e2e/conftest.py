"""The product's real processes for a test, on the store that the run is about."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.product import OwnRedis, Product, fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis of this test's own, which it may flush and stop."""
    server = OwnRedis(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def product(tmp_path: Path, own_redis: OwnRedis) -> Iterator[Product]:
    """The running product, empty but for its administrator `admin`."""
    on_postgres = os.environ.get("DATABASE_URL", "").startswith("postgres")
    server = os.environ["TEST_POSTGRES_URL"] if on_postgres else ""
    with fresh_database(tmp_path, server) as database_url:
        made = Product(tmp_path, database_url, own_redis.url)
        made.manage("migrate", "--verbosity", "0")
        made.manage("bootstrap")
        try:
            made.start_all()
            yield made
        finally:
            made.stop()
