"""What survives a restart with ``--state FILE``: VMs with snapshots, bundles, jobs, cached images.

The file is looked at for changes every half second and written whole, under another name first, so
that whoever kills the process finds the old state or the new one. It holds no secret: the logins of
simulated hosts are fixed, and the connections and commands that callers send are never kept.

Work under way ends with the process, as it would when a real host restarts: a VM that was starting
runs, one that was stopping is stopped, and a create that had not made its VM yet has failed. What
the control API has set beside VMs (faults, sizes, clocks) goes back to the flags.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from hosts.simulator import machines
from hosts.simulator.world import APPLE_VM, VM, CachedImage, Host, Job, Snapshot, World

SAVE_SECONDS = 0.5
"""How long a change may stay unwritten, the writing itself not counted."""

INTERRUPTED = "error 500: the simulated host was restarted before the VM was there"

_FORMAT = "simulated hosts 1"
_SLICE = 50  # hosts looked at in one go, so that answers do not wait for a large pool
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "dict[str, Any]": (dict,),
}
_ARRIVES = {
    "starting": "running",
    "resuming": "running",
    "stopping": "stopped",
    "suspending": "suspended",
    "pausing": "paused",
}
_VM_STATES = frozenset({*_ARRIVES, *_ARRIVES.values()})
_JOB_STATES = frozenset({"pending", "running", "completed", "failed"})


class StateFile:
    """The file of one world. ``load`` comes first; then ``keep`` runs until ``end``."""

    def __init__(self, path: Path, world: World) -> None:
        self.path = path
        self._world = world
        self._hosts: dict[int, str] = {}
        """What was last seen of every host, as JSON; also of hosts that are not served now."""
        self._is_written = False
        self._complained = False
        self._ending = asyncio.Event()

    def load(self) -> str:
        """Fill the world from the file; return a sentence when it was of no use, else nothing.

        Such a file is set aside, not overwritten. Raises ``ValueError`` with a sentence when the
        file cannot be read or written at all.
        """
        notice = ""
        try:
            if self.path.exists():
                try:
                    self._hosts = self._read()
                except (ValueError, RecursionError) as error:
                    aside = self.path.with_name(self.path.name + ".unusable")
                    self.path.replace(aside)
                    notice = (
                        f"The state in {self.path} cannot be used ({error}); "
                        f"the hosts start fresh, and the file is now {aside.name}."
                    )
            self._look(self._world.hosts.values())
            self._write()
        except OSError as error:
            raise ValueError(
                f"Cannot keep the state in {self.path}: {error.strerror}. "
                "Name a file in a folder that may be written."
            ) from error
        return notice

    async def keep(self) -> None:
        """Write every change until the end, and what changed last at the end."""
        ended = False
        while not ended:
            with contextlib.suppress(TimeoutError):
                ended = await asyncio.wait_for(self._ending.wait(), SAVE_SECONDS)
            hosts = list(self._world.hosts.values())
            for begin in range(0, len(hosts), _SLICE):
                self._look(hosts[begin : begin + _SLICE])
                await asyncio.sleep(0)
            if not self._is_written:
                await self._try_to_write()

    def end(self) -> None:
        """Let ``keep`` write once more and return."""
        self._ending.set()

    # -- writing -----------------------------------------------------------------------------

    def _look(self, hosts: Any) -> None:
        for host in hosts:
            record = json.dumps(_host_record(host), separators=(",", ":"))
            if self._hosts.get(host.k) != record:
                self._hosts[host.k] = record
                self._is_written = False

    async def _try_to_write(self) -> None:
        try:
            await asyncio.to_thread(self._write)
        except OSError as error:
            if not self._complained:
                sys.stderr.write(
                    f"Cannot keep the state in {self.path}: {error.strerror}. "
                    "The hosts go on; it is tried again.\n"
                )
            self._complained = True

    def _write(self) -> None:
        options = self._world.options
        head = {"format": _FORMAT, "seed": options.seed, "arch": options.arch}
        hosts = ",\n".join(f'"{k}":{record}' for k, record in sorted(self._hosts.items()))
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(f'{json.dumps(head)[:-1]}, "hosts": {{\n{hosts}\n}}}}\n')
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        self._is_written = True
        self._complained = False

    # -- reading -----------------------------------------------------------------------------

    def _read(self) -> dict[int, str]:
        """Fill the world; nothing is changed when ``ValueError`` says what is wrong."""
        options = self._world.options
        try:
            data = json.loads(self.path.read_bytes(), parse_constant=_refuse_constant)
        except ValueError:
            raise ValueError("it is not JSON") from None
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise ValueError("it is not the state of this version's simulated hosts")
        if (data.get("seed"), data.get("arch")) != (options.seed, options.arch):
            raise ValueError("its hosts were made with another --seed or --arch")
        records = _typed(data, "hosts", dict)
        parsed = {_number(text): _HostState(record) for text, record in records.items()}
        for k, host in self._world.hosts.items():
            if k in parsed:
                parsed[k].apply(host)
        return {
            _number(text): json.dumps(record, separators=(",", ":"))
            for text, record in records.items()
        }


class _HostState:
    """The checked state of one host. Making it raises ``ValueError`` when something is wrong."""

    def __init__(self, record: Any) -> None:
        if not isinstance(record, dict):
            raise ValueError("a host is not an object")
        self.addresses_given: int = _typed(record, "addresses_given", int)
        record = {"bundles": [], **record}  # files of before there were any
        self.vms = [self._vm(row) for row in _typed(record, "vms", list)]
        self.bundles = [self._vm(row) for row in _typed(record, "bundles", list)]
        self.jobs: list[Job] = [
            _parsed(Job, {"operation": "machines/create", "percent": 0, **row})
            for row in _typed(record, "jobs", list)
        ]
        self.cache: list[CachedImage] = [
            _parsed(CachedImage, row) for row in _typed(record, "cache", list)
        ]
        if any(job.state not in _JOB_STATES for job in self.jobs):
            raise ValueError("a job is in a state that does not exist")

    @staticmethod
    def _vm(row: Any) -> VM:
        older: dict[str, Any] = {"home": "", "configuration": {}}
        vm: VM = _parsed(VM, older | row if isinstance(row, dict) else row)
        snapshots = [_parsed(Snapshot, part) for part in _typed(row, "snapshots", list)]
        vm.snapshots = snapshots or None
        if vm.state not in _VM_STATES or vm.type not in ("VM", APPLE_VM):
            raise ValueError(f"the VM {vm.name} is in a state or of a type that does not exist")
        return vm

    def apply(self, host: Host) -> None:
        """Put it into the host, with every change that was under way at its end."""
        host.addresses_given = self.addresses_given
        host.vms = {vm.id: vm for vm in self.vms}
        host.bundles = {vm.bundle: vm for vm in self.bundles}
        for vm in self.vms:
            machines.place(host, vm, _ARRIVES.get(vm.state, vm.state))
        host.note_load()
        host.jobs = {job.id: job for job in self.jobs}
        for job in self.jobs:
            if job.state in ("pending", "running"):
                machines.end_interrupted(host, job, INTERRUPTED)
        host.cache = {(item.catalog_id, item.version): item for item in self.cache}


def _names(kind: type, *left_out: str) -> dict[str, tuple[type, ...]]:
    """Return the plain fields of a dataclass with the types that JSON may hold for them."""
    return {
        field.name: _TYPES[str(field.type)]
        for field in dataclasses.fields(kind)
        if field.type in _TYPES and field.name not in left_out
    }


# Left out: what counts timers, and moments of a clock that starts anew with the process.
_FIELDS: dict[type, dict[str, tuple[type, ...]]] = {
    VM: _names(VM, "gone", "turn"),
    Snapshot: _names(Snapshot),
    Job: _names(Job, "begun"),
    CachedImage: _names(CachedImage),
}


def _host_record(host: Host) -> dict[str, Any]:
    return {
        "addresses_given": host.addresses_given,
        "vms": [_vm_record(vm) for vm in host.vms.values()],
        "bundles": [_vm_record(vm) for vm in host.bundles.values()],
        "jobs": [_record(job) for job in host.jobs.values()],
        "cache": [_record(item) for item in host.cache.values()],
    }


def _vm_record(vm: VM) -> dict[str, Any]:
    return _record(vm) | {"snapshots": [_record(part) for part in vm.snapshots or ()]}


def _record(item: Any) -> dict[str, Any]:
    return {name: getattr(item, name) for name in _FIELDS[type(item)]}


def _parsed(kind: type, row: Any) -> Any:
    """Return the object of a record; raises ``ValueError`` when a field is missing or wrong."""
    if not isinstance(row, dict):
        raise ValueError(f"a {kind.__name__} is not an object")
    return kind(**{name: _typed(row, name, *types) for name, types in _FIELDS[kind].items()})


def _typed(row: dict[str, Any], name: str, *types: type) -> Any:
    value = row.get(name)
    if type(value) not in types:
        raise ValueError(f"“{name}” is missing or of a wrong type")
    return value


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError(f"{text!r} is not the number of a host")
    return int(text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")
