"""The process: flags, sockets, signals, and what it may not import."""

from __future__ import annotations

import ast
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[3]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="127.8.0.0/16 is local on Linux")


def port_of(sim: Any) -> int:
    return int(sim.url.rpartition(":")[2])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_promptly_with_requests_open(
    simulator: Callable[..., Any], wait_until: Callable[..., Any], number: signal.Signals
) -> None:
    sim = simulator("--clone-seconds", 600)
    ended: list[BaseException | httpx.Response] = []

    def ask(method: str, path: str, **kwargs: Any) -> None:
        try:
            ended.append(httpx.request(method, f"{sim.url}{path}", timeout=60, **kwargs))
        except httpx.HTTPError as error:
            ended.append(error)

    create = {"name": "a", "catalog_manifest": {"catalog_id": "x"}}
    login = sim.login()
    threads = [
        threading.Thread(
            target=ask,
            args=("POST", "/h/1/api/machines"),
            kwargs={"json": create, "headers": login},
        ),
    ]
    threads[0].start()
    wait_until(lambda: sim.look()["requests"].get("create"))
    sim.patch(hang=True)
    threads.append(threading.Thread(target=ask, args=("GET", "/h/1/api/health/probe")))
    threads[1].start()
    wait_until(lambda: sim.look()["requests"].get("hung"))
    sim.process.send_signal(number)
    assert sim.process.wait(5) == 0
    for thread in threads:
        thread.join(5)
    assert len(ended) == 2 and all(isinstance(item, httpx.ReadError) for item in ended)


@linux_only
def test_addresses(simulator: Callable[..., Any]) -> None:
    sim = simulator("--count", 3, "--vms", 1, "--addresses", "--fault", "refuse:0.34")
    port = port_of(sim)
    down = [host["k"] for host in sim.control() if not host["up"]]
    assert len(down) == 1
    (up, other) = [k for k in (1, 2, 3) if k not in down]
    client = httpx.Client(base_url=f"http://127.8.0.{up}:{port}")
    assert client.get("/api/v1/health/probe").json() == {"status": "OK"}
    assert sim.look(up)["address"] == f"http://127.8.0.{up}:{port}"
    slashed = client.get("/api/v1/machines/")
    assert slashed.headers["location"] == "/api/v1/machines"
    for path in ("/control/", f"/h/{up}/api/health/probe"):
        assert client.get(path).status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.8.0.{down[0]}:{port}/api/health/probe")

    def refused(k: int) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((f"127.8.0.{k}", port)) != 0

    sim.patch(up, up=False)
    assert refused(up)
    with pytest.raises(httpx.HTTPError):
        client.get("/api/v1/health/probe")
    assert httpx.get(f"http://127.8.0.{other}:{port}/api/health/probe").status_code == 200
    sim.patch(up, up=True)
    assert client.get("/api/v1/health/probe").status_code == 200
    sim.patch(down[0], up=True)
    assert not refused(down[0])
    sim.reset()
    assert refused(down[0])


def test_mixed_architectures_and_sizes(simulator: Callable[..., Any]) -> None:
    flags = ("--cpus", 4, "--memory", 8192, "--disk", 50)
    sim = simulator("--count", 3, "--arch", "mixed", *flags)
    hosts = sim.control()
    assert [host["arch"] for host in hosts] == ["arm64", "arm64", "x86_64"]
    assert (hosts[0]["cpus"], hosts[0]["memory"], hosts[0]["disk"]) == (4, 8192, 50)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--fault", "nonsense:1"], "Unknown fault"),
        (["--fault", "slow:7"], "from 0 to 1"),
        (["--count", "0"], "from 1 to"),
        (["--cpus", "0"], "above 0"),
        (["--boot-seconds", "-1"], "0 or more"),
    ],
)
def test_bad_flags_end_with_a_sentence(flags: list[str], text: str) -> None:
    command = [sys.executable, "-m", "hosts.simulator", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert text in done.stderr and "Traceback" not in done.stderr


def test_taken_port_is_said(sim: Any) -> None:
    command = [sys.executable, "-m", "hosts.simulator", "--port", str(port_of(sim))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert "Choose another --port" in done.stderr and "Traceback" not in done.stderr


def test_management_command_needs_no_database() -> None:
    program = (
        "from django.conf import settings; settings.configure()\n"
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "from hosts.management.commands.simulate_hosts import Command\n"
        "call_command(Command(), '--count', '2', '--port', '0')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip().removeprefix("listening on ")
    try:
        assert httpx.get(f"{url}/h/2/api/health/probe").status_code == 200
    finally:
        process.terminate()
    assert process.wait(5) == 0


def test_it_imports_neither_django_nor_the_rest_of_the_project() -> None:
    for file in (ROOT / "hosts" / "simulator").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                assert node.level == 0, file
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names | {"uvicorn", "hosts"}, (file, name)
                assert top != "hosts" or name.startswith("hosts.simulator"), (file, name)
