"""A PostgreSQL of a test's own: to be stopped and started again, or to run out of disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from scripts.servers import postgres_answers, postgres_programs, unprivileged_user
from tests.support.product import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.console.supervisor import Program

MAY_MOUNT = sys.platform == "linux" and os.geteuid() == 0


class OwnPostgres:
    """One server on a free port of 127.0.0.1, with an empty database."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        initdb, self._server = postgres_programs(folder / "pg", self.port)
        self._process: subprocess.Popen[bytes] | None = None
        assert _popen(initdb).wait(60) == 0

    def url(self, database: str = "postgres") -> str:
        return f"postgres://test@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        self._process = _popen(self._server)
        until(lambda: postgres_answers(self.port), 60, "PostgreSQL answers")

    def stop(self) -> None:
        """Stop it as an administrator would: every connection is cut."""
        if self._process:
            self._process.send_signal(self._server.stop_signal)
            self._process.wait(30)
            self._process = None


def _popen(program: Program) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        program.command, user=program.user, cwd=program.cwd, stdout=subprocess.DEVNULL
    )


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """Run a PostgreSQL; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # its user passes through to its own folder
        server = OwnPostgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class SmallDisk:
    """A disk of its own for one database of a server, small enough to be filled."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def database_on_small_disk(server: OwnPostgres, name: str, mebibytes: int) -> Iterator[SmallDisk]:
    """Make the database `name`, whose tables are on a disk of so many MiB. Needs `MAY_MOUNT`."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-disk-") as mount_point:
        Path(mount_point).chmod(0o711)
        options = f"size={mebibytes}m,mode=0711"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount_point], check=True)
        try:
            tables = Path(mount_point) / "tables"
            tables.mkdir(mode=0o700)
            if user := unprivileged_user():
                shutil.chown(tables, user)
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"CREATE TABLESPACE {name} LOCATION '{tables}'")  # type: ignore[arg-type]
                connection.execute(f"CREATE DATABASE {name} TABLESPACE {name}")  # type: ignore[arg-type]
            yield SmallDisk(Path(mount_point))
        finally:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]
                connection.execute(f"DROP TABLESPACE IF EXISTS {name}")  # type: ignore[arg-type]
            subprocess.run(["umount", mount_point], check=True)
