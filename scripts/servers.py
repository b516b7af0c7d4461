"""Run a command with a PostgreSQL and a Redis of its own, and stop both when it ends.

    python -m scripts.servers COMMAND …

exports `TEST_POSTGRES_URL` and `TEST_REDIS_URL`, and a `VAR_DIR` and secrets that are not those of
the product in this folder. Both servers keep their data in a new folder under
/tmp that is removed at the end, listen on free ports of 127.0.0.1 and end with this process,
however it ends. PostgreSQL refuses to run as root, so then it runs as `postgres` or `nobody`.
`WITHOUT=postgresql,redis` (of `scripts/test` with `ALLOW_MISSING=1`) leaves servers out.
"""

from __future__ import annotations

import base64
import math
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from orchestrator.console.supervisor import (
    STOP_SECONDS,
    Program,
    Stopped,
    Supervisor,
    SupervisorError,
    die_with_parent,
)

START_SECONDS = 30.0
LOCALE = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
# Nothing here outlives the run, so nothing is made safe on disk.
POSTGRES_OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "log_min_messages": "warning",
    "listen_addresses": "127.0.0.1",
}


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def postgres_binary(name: str) -> str:
    """Return the path of a PostgreSQL server binary: on PATH, or where Debian keeps the newest."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    newest = sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)
    search = os.pathsep.join([os.environ.get("PATH", ""), *map(str, newest)])
    if path := shutil.which(name, path=search):
        return path
    raise SupervisorError(f"the PostgreSQL server program {name} is missing; run scripts/needs.")


def unprivileged_user() -> str | None:
    """Return who the servers run as: None (ourselves) unless we are root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def postgres_programs(folder: Path, port: int) -> tuple[Program, Program]:
    """Return what makes a cluster in `folder` (its user must be able to get there), and its server.

    The folder is made here, for the user that the server runs as.
    """
    user, data = unprivileged_user(), folder / "data"
    folder.mkdir(mode=0o700)
    if user:
        shutil.chown(folder, user)
    initdb = Program(
        "initdb",
        [
            *(postgres_binary("initdb"), "--pgdata", str(data), "--username", "test"),
            *("--auth", "trust", "--encoding", "UTF8", "--locale", LOCALE, "--no-sync"),
        ],
        user=user,
        cwd=folder,
    )
    options = POSTGRES_OPTIONS | {"port": str(port), "unix_socket_directories": str(folder)}
    server = Program(
        "postgresql",
        [
            *(postgres_binary("postgres"), "-D", str(data)),
            *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
        ],
        user=user,
        cwd=folder,
        stop_signal=signal.SIGINT,  # "fast": does not wait for clients to leave
        foundation=True,
    )
    return initdb, server


def postgres_answers(port: int) -> bool:
    """Return whether the server at `port` takes connections."""
    ready = [postgres_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(ready, check=False).returncode == 0


def start_postgres(supervisor: Supervisor, folder: Path) -> str:
    """Make a cluster in `folder`, start it, and return the URL of its superuser."""
    port = free_port()
    initdb, server = postgres_programs(folder, port)
    supervisor.finished(supervisor.begin(initdb), START_SECONDS)
    supervisor.start(server)
    supervisor.wait(lambda: postgres_answers(port), START_SECONDS, "PostgreSQL does not answer")
    return f"postgres://test@127.0.0.1:{port}/postgres"


def start_redis(supervisor: Supervisor, folder: Path) -> str:
    """Start a Redis that keeps nothing and return its URL."""
    port = free_port()
    folder.mkdir()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    supervisor.start(Program("redis", [*command, "--dir", str(folder)], foundation=True))

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    supervisor.wait(answers, START_SECONDS, "Redis does not answer")
    return f"redis://127.0.0.1:{port}/0"


def run_between(supervisor: Supervisor, command: list[str], environment: dict[str, str]) -> int:
    """Run `command` in our place in the terminal; return its exit code. A stop ends it, too."""
    process = subprocess.Popen(command, env=environment)
    try:
        supervisor.wait(lambda: process.poll() is not None, math.inf, "")
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
    return process.wait()


def main(command: list[str]) -> int:
    """Run `command` between the start and the end of the servers; return its exit code."""
    die_with_parent(os.getppid(), signal.SIGTERM)
    without = os.environ.get("WITHOUT", "").split(",")
    environment = os.environ | {
        "SECRET_KEY": secrets.token_urlsafe(50),
        "FIELD_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    with tempfile.TemporaryDirectory(prefix="orchestrator-test-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # PostgreSQL's user passes through to its own folder
        environment["VAR_DIR"] = str(folder / "var")
        try:
            with Supervisor(folder / "log", lambda text: sys.stderr.write(f"{text}\n")) as servers:
                if "redis" not in without:
                    environment["TEST_REDIS_URL"] = start_redis(servers, folder / "redis")
                if "postgresql" not in without:
                    environment["TEST_POSTGRES_URL"] = start_postgres(servers, folder / "pg")
                return run_between(servers, command, environment)
        except Stopped:
            return 128 + signal.SIGTERM
        except SupervisorError as error:
            sys.stderr.write(f"{error}\n")
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
