"""What a simulator is started with; a reset goes back to exactly this."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ARCHITECTURES = ("arm64", "x86_64", "mixed")


@dataclass(frozen=True, slots=True)
class Options:
    """Start values of all hosts. Memory in MiB, disk in GiB, times in seconds unless named."""

    count: int = 1
    port: int = 0
    seed: int = 1
    arch: str = "arm64"
    cpus: int = 12
    memory_mib: int = 32768
    disk_gib: int = 1000
    vms: int = 0
    boot_seconds: float = 2.0
    clone_seconds: float = 2.0
    late_seconds: float = 20.0
    slow_seconds: float = 5.0
    latency_ms: float = 0.0
    faults: dict[str, float] = field(default_factory=dict)
    addresses: bool = False
    state: Path | None = None
    packs: Path | None = None
    """Where packs of hosts are real files; without it push and pull move none."""
