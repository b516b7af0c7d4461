"""The two bars of the simulator: memory of a large pool, and health probes a second on one core.

``python tests/bench/simulator_bar.py`` starts 1,000 hosts with 10 VMs each, pins the simulator and
the load to a core each where the system allows it, and writes one line of JSON per measurement.
Ends with code 1 when a bar is missed: 500 MiB resident, 500 probes a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HOSTS = 1000
VMS = 10
CLIENTS = 32
SECONDS = 5.0
MAX_MIB = 500
MIN_PROBES = 500
_KEY = b"X-Api-Key: c2ltOnNpbQ==\r\n"


def pin(pid: int, core: int) -> None:
    """Bind a process to one core where that is possible."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0) if pid == 0 else os.sched_getaffinity(pid))
        os.sched_setaffinity(pid, {cores[core % len(cores)]})


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    done = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used (Linux), else 0."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, extra: bytes = b""
) -> None:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: sim\r\n".encode() + extra + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"unexpected answer to {path}: {head!r}")
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.startswith(b"content-length")
    )
    await reader.readexactly(length)


async def load(port: int, path: Callable[[int], str], *, fresh: bool, extra: bytes = b"") -> float:
    """Return requests a second of ``CLIENTS`` clients, on fresh or on kept connections."""
    end = time.monotonic() + SECONDS
    done = 0

    async def kept(client: int) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        n = client
        while time.monotonic() < end:
            await _ask(reader, writer, path(n % HOSTS + 1), extra)
            n += CLIENTS
            done += 1
        writer.close()

    async def renewed(client: int) -> None:
        nonlocal done
        n = client
        while time.monotonic() < end:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await _ask(reader, writer, path(n % HOSTS + 1), extra)
            writer.close()
            n += CLIENTS
            done += 1

    work: Callable[[int], Coroutine[Any, Any, None]] = renewed if fresh else kept
    begun = time.monotonic()
    await asyncio.gather(*(work(client) for client in range(CLIENTS)))
    return done / (time.monotonic() - begun)


def measure() -> dict[str, float]:
    """Start the pool, load it, and return what was measured."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "hosts.simulator", "--count", str(HOSTS), "--vms", str(VMS)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().strip().rpartition(":")[2])
    results = {"start_seconds": time.monotonic() - begun}
    pin(process.pid, 0)
    pin(0, 1)
    try:
        for name, path, fresh in (
            ("probes_kept", "/h/{}/api/health/probe", False),
            ("probes_fresh", "/h/{}/api/health/probe", True),
            ("lists_kept", "/h/{}/api/v1/machines", False),
            ("hardware_kept", "/h/{}/api/v1/config/hardware", False),
        ):
            before = cpu_seconds(process.pid)
            rate = asyncio.run(load(port, path.format, fresh=fresh, extra=_KEY))
            results[f"{name}_per_second"] = rate
            used = cpu_seconds(process.pid) - before
            results[f"{name}_cpu_us"] = used / (rate * SECONDS) * 1e6
        results["resident_mib"] = resident_mib(process.pid)
    finally:
        process.terminate()
        process.wait(10)
    return results


def main() -> int:
    """Measure, write the numbers, and tell by the exit code whether the bars hold."""
    results = measure()
    for name, value in results.items():
        sys.stdout.write(json.dumps({name: round(value, 2)}) + "\n")
    slowest = min(results["probes_kept_per_second"], results["probes_fresh_per_second"])
    return int(results["resident_mib"] >= MAX_MIB or slowest < MIN_PROBES)


if __name__ == "__main__":
    sys.exit(main())
