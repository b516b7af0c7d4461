"""Simulated hosts over real HTTP, as their own process."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Simulation:
    """A running simulator and its control API."""

    url: str
    process: subprocess.Popen[str]

    def host_url(self, number: int) -> str:
        return f"{self.url}/h/{number}"

    def address_url(self, number: int) -> str:
        """Return the host's own address, which refuses connections while it is down.

        Only of hosts started with `--addresses` (Linux).
        """
        return f"http://127.8.{number // 256}.{number % 256}:{self.url.rpartition(':')[2]}"

    def control(self, number: int | None = None, **changes: Any) -> dict[str, Any]:
        """Change one host (or all), or just look: returns the control API's answer."""
        path = f"/control/h/{number}" if number else "/control/"
        if changes:
            answer = httpx.patch(self.url + path, json=changes, timeout=10)
        else:
            answer = httpx.get(self.url + path, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def vm_names(self, number: int) -> list[str]:
        """Return the names of the VMs that are on a host now."""
        return sorted(vm["name"] for vm in self.control(number)["vms"])

    def all_vm_names(self) -> list[str]:
        return sorted(vm["name"] for host in self.control()["hosts"] for vm in host["vms"])

    def reset(self) -> None:
        httpx.post(f"{self.url}/control/reset", timeout=10).raise_for_status()


@contextmanager
def simulated_hosts(count: int = 3, *options: str) -> Iterator[Simulation]:
    """Start `count` simulated hosts on a free port; they end with the block."""
    command = [
        *(sys.executable, "-m", "hosts.simulator"),
        *("--count", str(count), "--port", "0", "--seed", "1"),
        *("--boot-seconds", "0.05", "--clone-seconds", "0.05"),
        *options,
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("listening on "):
                    break
            else:
                raise RuntimeError("The simulator did not start.")
            yield Simulation(line.split()[-1], process)
        finally:
            process.terminate()
            process.wait(10)
