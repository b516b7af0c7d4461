"""The product as its real processes: web, workers and beat, against a database and a Redis."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
# The run's own folder; and a switch that makes every start of Python compile everything anew.
LEFT_OUT = {"VAR_DIR", "PYTHONDONTWRITEBYTECODE"}
CELERY = [sys.executable, "-m", "celery", "--skip-checks", "-A", "orchestrator"]
WORKER = [*CELERY, "worker", "-P", "threads", "--without-gossip", "--without-mingle", "-l", "INFO"]

# The product's own settings, shortened so that tests need not wait. A promise with a time is
# asserted here with five times its limit; `make bench` measures it.
SHORT = {
    "HOST_POLL_SECONDS": "1",
    "HOST_INVENTORY_SECONDS": "5",
    "HOST_PROBE_SECONDS": "1",
    "HOST_WATCH_LEASE_SECONDS": "2",
    "JOB_LEASE_SECONDS": "3",
    "CREATE_CALL_SECONDS": "2",
    "CLONE_CALL_SECONDS": "2",
    "CREATE_DOUBT_SECONDS": "2",
    "VM_POLL_SECONDS": "0.1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for `condition()` to be true and return it; fail with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"Not within {seconds} s: {what}")
        time.sleep(0.05)  # the pause between two looks at the condition


class Product:
    """Real processes of the product. Each has a name, a log file, and may be killed and revived."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ports = {"web": self.port}  # of the web processes
        self.redis_url = redis_url
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **{name: os.environ[name] for name in os.environ.keys() - LEFT_OUT},
            **SHORT,
            "VAR_DIR": str(folder),
            "REDIS_URL": redis_url,
            "SECRET_KEY": secrets.token_urlsafe(50),
            "DATABASE_URL": database_url,
            **settings,
        }
        self.environment.setdefault("FIELD_KEYS", _field_key())

    def manage(self, *words: str) -> str:
        """Run a management command and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, name: str, **settings: str) -> None:
        """Start one process: web, steps, calls, beat or watcher (`steps-2` is another worker).

        Another web process (`web-2`) has a port of its own, see `port_of`.
        """
        kind = name.partition("-")[0]
        command = {
            "web": [
                *(sys.executable, "-m", "uvicorn", "orchestrator.asgi:application"),
                *("--port", str(self.port_of(name)), "--no-access-log"),
                *("--timeout-graceful-shutdown", "2"),
            ],
            "steps": [*WORKER, "-Q", "steps", "-c", "8", "-n", f"{name}@%h"],
            "calls": [*WORKER, "-Q", "calls", "-c", "16", "-n", f"{name}@%h"],
            "beat": [*CELERY, "beat", "-S", "celery.beat:Scheduler"],
            "watcher": [sys.executable, "manage.py", "watch_hosts"],
        }[kind]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.environment | settings, stdout=log, stderr=log
            )

    def port_of(self, name: str) -> int:
        """Return the port of a web process."""
        if name not in self.ports:
            self.ports[name] = free_port()
        return self.ports[name]

    def start_all(self) -> None:
        for name in ("web", "steps", "calls", "beat"):
            self.start(name)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until every process says that it works."""
        until(self._is_ready, 60, f"ready; logs are in {self.folder}")

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=5)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and answer.json()["status"] == "ready"

    def kill(self, name: str) -> None:
        """Kill one process with SIGKILL."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def wait_dead(self, name: str, seconds: float = 30) -> None:
        """Wait until a process has died by itself, and forget it."""
        until(lambda: self.processes[name].poll() is not None, seconds, f"{name} dies")
        assert self.processes.pop(name).returncode == -signal.SIGKILL

    def dead(self) -> list[str]:
        """Return the names of processes that ended without being asked to."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        self.processes.clear()

    def token(self, username: str, *scopes: str) -> str:
        """Return a new API token of an account."""
        return self.manage(
            "create_token", username, "--name", "test", "--scopes", ",".join(scopes or ("admin",))
        ).strip()

    def api(self, token: str) -> httpx.Client:
        """Return a client of API v2 with this token."""
        return httpx.Client(
            base_url=f"{self.url}/api/v2",
            headers={"Authorization": f"Bearer {token}"},
            timeout=70,
        )

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


def _field_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


@contextmanager
def fresh_database(folder: Path, postgres_url: str = "") -> Iterator[str]:
    """Give a migrated and empty database: a SQLite file, or one of the PostgreSQL at the URL."""
    if not postgres_url:
        shutil.copy(migrated_file(), folder / "product.sqlite3")
        yield f"sqlite:///{folder / 'product.sqlite3'}"
        return
    with _database(postgres_url, template=_migrated_database(postgres_url)) as url:
        yield url


# Migrating takes seconds, and a copy next to none: each process of a run migrates once.
_kept = ExitStack()
atexit.register(_kept.close)


@cache
def migrated_file() -> Path:
    """Return a SQLite file with the tables of the product, to be copied."""
    folder = Path(_kept.enter_context(TemporaryDirectory()))
    migrate(f"sqlite:///{folder / 'product.sqlite3'}", folder)
    return folder / "product.sqlite3"


@cache
def _migrated_database(postgres_url: str) -> str:
    folder = Path(_kept.enter_context(TemporaryDirectory()))
    url = _kept.enter_context(_database(postgres_url))
    migrate(url, folder)
    return url.rpartition("/")[2]


def migrate(url: str, folder: Path) -> None:
    """Give an empty database its tables, as `manage.py migrate` does."""
    Product(folder, url, "redis://127.0.0.1:1/0").manage("migrate", "--verbosity", "0")


@contextmanager
def _database(postgres_url: str, template: str = "template1") -> Iterator[str]:
    name = f"product_{secrets.token_hex(6)}"
    server, _, _ = postgres_url.rpartition("/")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        create = f'CREATE DATABASE "{name}" TEMPLATE "{template}"'
        connection.execute(create)  # type: ignore[arg-type]
    try:
        yield f"{server}/{name}"
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]


class OwnRedis:
    """A Redis of its own, to be flushed, stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self.folder)),
            ],
            stdout=subprocess.DEVNULL,
        )
        until(self._answers, 20, "Redis answers")

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=2)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@contextmanager
def running_product(
    folder: Path, server: OwnRedis, *, database_url: str = "", **settings: str
) -> Iterator[Product]:
    """Run the whole product, empty but for its administrator `admin`.

    Without a database of its own (which must be empty) it is on the run's own store.
    """
    on_postgres = os.environ.get("DATABASE_URL", "").startswith("postgres")
    postgres = os.environ["TEST_POSTGRES_URL"] if on_postgres else ""
    if database_url:
        migrate(database_url, folder)
    with nullcontext(database_url) if database_url else fresh_database(folder, postgres) as url:
        made = Product(folder, url, server.url, **settings)
        made.manage("bootstrap")
        try:
            made.start_all()
            yield made
        finally:
            made.stop()
