"""What a measure runs on: a database of its own, a Redis of its own, the product's processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg

from tests.support.product import ROOT, SHORT, OwnRedis, Product, fresh_database, until

if TYPE_CHECKING:
    from collections.abc import Iterator

CHILD_SECONDS = 180  # how long the work of one child process may take


class Stage:
    """A product with its own database and Redis. Nothing of it runs until it is started."""

    def __init__(self, product: Product, redis: OwnRedis, database_url: str) -> None:
        self.product = product
        self.redis = redis
        self.database_url = database_url

    def inside(self, function: str, **arguments: Any) -> Any:
        """Call `module:function` of this package in a Django process; return its JSON result."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.inside", function, json.dumps(arguments)],
            cwd=ROOT,
            env=self.product.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=CHILD_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"{function} failed:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def start(self, *names: str) -> None:
        """Start processes of the product."""
        for name in names:
            self.product.start(name)

    def wait_answering(self) -> None:
        """Wait until the web process answers."""
        until(lambda: self._status("/healthz") == 200, 60, f"web; logs: {self.product.folder}")

    def wait_ready(self) -> None:
        """Wait until nothing is missing, workers and beat included."""

        def ready() -> bool:
            try:
                answer = httpx.get(f"{self.product.url}/readyz", timeout=5)
                checks = answer.json()["checks"].values()
            except (httpx.HTTPError, ValueError, KeyError):
                return False
            return answer.status_code == 200 and set(checks) == {"ok"}

        until(ready, 60, f"ready; logs: {self.product.folder}")

    def _status(self, path: str) -> int:
        try:
            return httpx.get(self.product.url + path, timeout=5).status_code
        except httpx.HTTPError:
            return 0

    def ask_database(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query, read past the product."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]


class Stages:
    """Makes stages on one PostgreSQL server."""

    def __init__(self, postgres_url: str) -> None:
        self.postgres_url = postgres_url

    @contextmanager
    def stage(self, **settings: str) -> Iterator[Stage]:
        """Give a stage; its processes, Redis and database go at the end."""
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as temporary,
            fresh_database(Path(temporary), self.postgres_url) as url,
        ):
            folder = Path(temporary)
            redis = OwnRedis(folder)
            redis.start()
            product = Product(folder, url, redis.url)
            # The product as it is delivered, not with the short pauses of the tests.
            for shortened in SHORT:
                product.environment.pop(shortened, None)
            product.environment |= settings
            try:
                yield Stage(product, redis, url)
            finally:
                product.stop()
                redis.stop()
