"""The flags of the simulator, shared by ``python -m hosts.simulator`` and ``manage.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hosts.simulator.control import address_of
from hosts.simulator.faults import KINDS, parse_faults
from hosts.simulator.options import ARCHITECTURES, Options

DESCRIPTION = "Serve simulated Parallels DevOps hosts over real HTTP."
MAX_HOSTS = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all flags to a parser."""
    start = Options()
    add = parser.add_argument
    add("--count", type=_count, default=start.count, help="number of hosts")
    add("--port", type=int, default=start.port, help="port on 127.0.0.1; 0 picks a free one")
    add("--seed", type=int, default=start.seed, help="chooses who is hit by faults")
    add("--arch", choices=ARCHITECTURES, default=start.arch, help="mixed: every third is x86_64")
    add("--cpus", type=_size, default=start.cpus, help="cores of a host")
    add("--memory", type=_size, default=start.memory_mib, help="memory of a host in MiB")
    add("--disk", type=_size, default=start.disk_gib, help="disk of a host in GiB")
    add("--vms", type=int, default=start.vms, help="foreign VMs on every host (golden-1 ...)")
    add("--boot-seconds", type=_seconds, default=start.boot_seconds, help="time a VM boots")
    add(
        "--clone-seconds",
        type=_seconds,
        default=start.clone_seconds,
        help="time a clone takes; twice that when the image is not cached on the host",
    )
    add(
        "--late-seconds",
        type=_seconds,
        default=start.late_seconds,
        help="when a VM appears after a create hit by latecreate",
    )
    add("--slow-seconds", type=_seconds, default=start.slow_seconds, help="delay of fault slow")
    add("--latency-ms", type=_seconds, default=start.latency_ms, help="delay of every answer")
    add(
        "--fault",
        action="append",
        default=[],
        dest="faults",
        metavar="KIND:RATE",
        help=f"share (0 to 1) of requests or hosts hit by: {', '.join(sorted(KINDS))}",
    )
    add(
        "--addresses",
        action="store_true",
        help=f"also give every host its own address, {address_of(1)} for host 1 (Linux)",
    )
    add(
        "--state",
        type=Path,
        metavar="FILE",
        help="keep VMs, jobs and cached images in this file over a restart",
    )
    add(
        "--packs",
        type=Path,
        metavar="FOLDER",
        help="push and pull real (small) packs, with the hosts' files below this folder",
    )


def options_from(given: dict[str, Any]) -> Options:
    """Return the options of parsed flags; raises ``ValueError`` with a sentence for the user."""
    pairs = []
    for item in given["faults"]:
        kind, colon, share = item.partition(":")
        pairs.append((kind, share if colon else 1))
    return Options(
        count=given["count"],
        port=given["port"],
        seed=given["seed"],
        arch=given["arch"],
        cpus=given["cpus"],
        memory_mib=given["memory"],
        disk_gib=given["disk"],
        vms=given["vms"],
        boot_seconds=given["boot_seconds"],
        clone_seconds=given["clone_seconds"],
        late_seconds=given["late_seconds"],
        slow_seconds=given["slow_seconds"],
        latency_ms=given["latency_ms"],
        faults=parse_faults(pairs),
        addresses=given["addresses"],
        state=given["state"],
        packs=given["packs"],
    )


def run(given: dict[str, Any]) -> None:
    """Serve until a signal ends it; raises ``ValueError`` for what cannot be had."""
    from hosts.simulator.server import serve  # --help needs no server

    options = options_from(given)
    try:
        serve(options)
    except OSError as error:
        advice = "Choose another --port"
        if options.addresses:
            advice += ", or leave out --addresses, which needs Linux"
        raise ValueError(f"Cannot listen: {error.strerror}. {advice}.") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="simulate_hosts", description=DESCRIPTION)
    add_arguments(parser)
    try:
        run(vars(parser.parse_args(argv)))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_HOSTS:
        raise argparse.ArgumentTypeError(f"use a number from 1 to {MAX_HOSTS}")
    return number


def _size(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("use a number above 0")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("use a number, 0 or more")
    return number
