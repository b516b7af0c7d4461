"""What was measured: one result per line of the table and of `bench-results.json`."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "bench-results.json"


@dataclass(frozen=True)
class Bar:
    """What a value has to keep: at most, or at least, so much."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True)
class Result:
    """One measured value. `value` is None when the measure failed; `note` then says why.

    `reference` is what PACKAGES.md measured on a prototype of the core: a comparison, not a bar.
    """

    name: str
    value: float | None
    unit: str
    bar: Bar | None = None
    reference: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Return whether the bar is kept; None when there is none."""
        if self.bar is None:
            return None if self.value is not None else False
        return self.value is not None and self.bar.met(self.value)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def machine() -> str:
    """Return what the run was measured on."""
    model = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else ""
    python = f"Python {platform.python_version()}"
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    cores = f"{os.cpu_count()} x {model or platform.machine()}"
    return f"{cores}, {platform.system()}, {python}, {load}"


def commit() -> str:
    """Return the commit that was measured, with a + when the tree has changes."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def about() -> dict[str, str]:
    """Return what tells one run from another. Call it before the run loads the machine."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
    }


def write(results: Iterable[Result], run: dict[str, str], *, partial: bool = False) -> None:
    """Write `bench-results.json`: a list with an object per result.

    A `partial` run takes the place of the results of the same names, and leaves the others.
    """
    rows: list[dict[str, Any]] = [
        {
            **asdict(result),
            "bar": str(result.bar) if result.bar else None,
            "met": result.met,
            **run,
        }
        for result in results
    ]
    if partial and FILE.exists():
        names = {row["name"] for row in rows}
        rows = [row for row in json.loads(FILE.read_text()) if row["name"] not in names] + rows
    FILE.write_text(json.dumps(rows, indent=2) + "\n")


def show(results: Iterable[Result]) -> None:
    """Print the table."""
    verdicts = {True: "met", False: "MISSED", None: ""}
    rows = [("measure", "value", "unit", "bar", "", "prototype", "")]
    rows += [
        (
            result.name,
            "failed" if result.value is None else f"{result.value:,.1f}",
            result.unit,
            str(result.bar or ""),
            verdicts[result.met],
            result.reference,
            result.note,
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, value, *rest in rows:
        cells = [name.ljust(widths[0]), value.rjust(widths[1])]
        cells += [cell.ljust(width) for cell, width in zip(rest, widths[2:], strict=True)]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    sys.stdout.flush()
