"""The product's real processes for a test, on the store that the run is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.product import OwnRedis, Product, running_product

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
    with running_product(tmp_path, own_redis) as made:
        yield made
