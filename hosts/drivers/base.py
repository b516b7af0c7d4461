"""What every host driver offers: the protocol, the values it returns and the one error it raises.

Nothing in here knows how a host is spoken to. Units: memory in MiB, disk in GiB, durations in
seconds, moments aware UTC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .addresses import normalise_fingerprint as normalise_fingerprint
from .addresses import normalise_url as normalise_url
from .errors import ErrorKind as ErrorKind
from .errors import HostError as HostError
from .values import Architecture as Architecture
from .values import CachedImage as CachedImage
from .values import Changes as Changes
from .values import Configuration as Configuration
from .values import CreateAnswer as CreateAnswer
from .values import CreateSpec as CreateSpec
from .values import ExecuteResult as ExecuteResult
from .values import Hardware as Hardware
from .values import HostJob as HostJob
from .values import Inventory as Inventory
from .values import News as News
from .values import ProxyHost as ProxyHost
from .values import ProxyRoute as ProxyRoute
from .values import PushSpec as PushSpec
from .values import RemoteVM as RemoteVM
from .values import Report as Report
from .values import ReverseProxy as ReverseProxy
from .values import SharedFolder as SharedFolder
from .values import Snapshot as Snapshot
from .values import Topic as Topic
from .values import VMStatus as VMStatus
from .values import VMType as VMType

MACOS_GUEST_LIMIT = 2
"""macOS guests that may run at once on one Mac with Apple silicon (contract 3.1)."""


@dataclass(frozen=True)
class Connection:
    """Where a host is and how to log in: a user name with password, or an API key.

    `url` is the base that `normalise_url` returns. `api_key` is `key:secret` as typed, or that in
    base64 already. `tls_fingerprint` pins the certificate: only the one with exactly this SHA-256
    is accepted, whoever signed it. The secrets do not show in `repr`.
    """

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    tls_fingerprint: str = ""


@dataclass(frozen=True)
class Limits:
    """How long each kind of call may take in all, in seconds, and how large an answer may be.

    A login, when one is needed, has its own limit on top.
    """

    login_seconds: float = 10
    probe_seconds: float = 3
    read_seconds: float = 10
    list_seconds: float = 20
    create_seconds: float = 20
    """Handing over an asynchronous create; the work goes on after it."""
    create_sync_seconds: float = 5 * 3600
    """A synchronous create pulls the image while the call is held open (contract 1.3)."""
    clone_seconds: float = 600
    state_seconds: float = 150
    """Start, stop, delete, configure."""
    snapshot_seconds: float = 600
    upload_seconds: float = 600
    look_seconds: float = 5
    """Logs and the reverse proxy, which a person waits for."""
    max_log_bytes: int = 1024 * 1024
    """What is kept of a log: its end."""
    measure_seconds: float = 10
    """Adding up the size of a folder."""
    execute_margin_seconds: float = 15
    """Added to the time that the command itself is given."""
    max_answer_bytes: int = 32 * 1024 * 1024


DEFAULT_LIMITS = Limits()
CREATE_LIMIT_SECONDS = DEFAULT_LIMITS.create_seconds
CREATE_SYNC_LIMIT_SECONDS = DEFAULT_LIMITS.create_sync_seconds


class Driver(Protocol):
    """Calls to one host, for threads. Every method raises `HostError` and nothing else."""

    def probe(self) -> float:
        """Ask for a sign of life; returns the latency in milliseconds."""

    def hardware(self) -> Hardware:
        """Read the machine; also proves the credentials and the version."""

    def list_vms(self) -> tuple[RemoteVM, ...]:
        """All VMs of the host: complete, or an error."""

    def read_vm(self, vm_id: str) -> RemoteVM:
        """One VM by its id on the host."""

    def status(self, vm_id: str) -> VMStatus:
        """State and address of a VM, cheaper than `read_vm`."""

    def create(self, spec: CreateSpec, job_id: str) -> CreateAnswer:
        """Have a VM made. `job_id` becomes the host job's id; without jobs the host blocks."""

    def clone(self, source_id: str, name: str) -> str:
        """Clone a VM of this host; returns the id of the new one."""

    def configure(
        self, vm_id: str, cpus: int, memory_mib: int, disk_gib: int | None = None
    ) -> None:
        """Set the size of a stopped VM. What a host applied before it failed stays applied."""

    def configuration(self, vm_id: str) -> Configuration:
        """How a VM is set up beside its size, as its host shows it."""

    def change(self, vm_id: str, changes: Changes) -> None:
        """Change it. What a host applied before it failed stays applied."""

    def rename(self, vm_id: str, name: str) -> None:
        """Give a VM another name on its host."""

    def start(self, vm_id: str) -> None:
        """Start a VM."""

    def suspend(self, vm_id: str) -> None:
        """Suspend a running VM to disk."""

    def resume(self, vm_id: str) -> None:
        """Let a suspended or paused VM run on."""

    def pause(self, vm_id: str) -> None:
        """Freeze a running VM in memory."""

    def restart(self, vm_id: str) -> None:
        """Shut a running VM down and boot it."""

    def reset(self, vm_id: str) -> None:
        """Cut the power of a running VM and boot it."""

    def stop(self, vm_id: str, force: bool) -> None:
        """Shut a VM down, or switch it off with `force`."""

    def delete(self, vm_id: str, force: bool) -> None:
        """Delete a VM; a running one only with `force`. Absence is proven by a later list only."""

    def execute(
        self,
        vm_id: str,
        command: str,
        environment: Mapping[str, str],
        timeout_seconds: float,
        *,
        user: str = "",
        sudo: bool = False,
    ) -> ExecuteResult:
        """Run a command in a VM; a non-zero exit code is a result, not an error.

        Without `user` it is the account that the guest's tools run as; with `sudo` it is root.
        """

    def upload(self, vm_id: str, path: str, remote_path: str) -> None:
        """Copy a file from the host's disk into a running VM."""

    def snapshots(self, vm_id: str) -> tuple[Snapshot, ...]:
        """The snapshots of a VM, each after its parent."""

    def take_snapshot(self, vm_id: str, name: str, description: str) -> str:
        """Take a snapshot below the current one; returns its id."""

    def revert_to_snapshot(self, vm_id: str, snapshot_id: str) -> None:
        """Bring a VM back to what it was: running if it ran then, else stopped."""

    def delete_snapshot(self, vm_id: str, snapshot_id: str, children: bool) -> None:
        """Delete a snapshot; without `children` those move up to its parent."""

    def delete_snapshots(self, vm_id: str) -> None:
        """Delete all snapshots of a VM."""

    def register(self, path: str, name: str, new_id: bool, user: str = "") -> RemoteVM:
        """Put a VM of the host's disk on its list, under its own name without `name`."""

    def unregister(self, vm_id: str) -> None:
        """Take a stopped VM off the host's list; it stays on the disk."""

    def folder_size(self, path: str, user: str) -> int | None:
        """MiB that a folder of the host's disk takes; None when the host tells of no such one."""

    def read_job(self, job_id: str) -> HostJob:
        """A host job; NOT_FOUND when the host does not know it (any more)."""

    def push(self, spec: PushSpec, job_id: str) -> str:
        """Have a VM's folder pushed; returns the id of the host's job, `job_id` if it takes it."""

    def cached_images(self) -> tuple[CachedImage, ...] | None:
        """What the host has cached; None when it has no cache."""

    def delete_cached(self, catalog_id: str = "", version: str = "") -> None:
        """Delete an image from the cache: one version, or all of it; without an id everything."""

    def logs(self, lines: int) -> tuple[str, ...]:
        """The last lines of the host's log, without what looks like a secret."""

    def reverse_proxy(self) -> ReverseProxy | None:
        """What the host's reverse proxy does; None when it has none. No certificates or keys."""

    def relay_reverse_proxy(self, method: str, parts: Sequence[str], body: Any = None) -> Any:
        """Pass a call on to the host's reverse proxy, at the path of `parts` below its root.

        Returns the document that it answers, of which nothing is known but that it is JSON.
        """

    def inventory(self) -> Inventory:
        """Hardware, VMs and cached images."""

    def close(self) -> None:
        """Let go of what only this driver holds."""


class AsyncDriver(Protocol):
    """The calls of poller and watcher, for an event loop: they raise `HostError`, nothing else."""

    async def probe(self) -> float:
        """Ask for a sign of life; returns the latency in milliseconds."""

    async def inventory(self) -> Inventory:
        """Hardware, VMs and cached images."""

    def news(self, report: Callable[[Report], None] | None = None) -> AsyncIterator[News]:
        """Follow the host's events, for ever: the first item says that the connection stands.

        What the host tells of itself beside them goes to `report`, which is called in the event
        loop and must not block; without one the host is not asked for it. Ends only by raising:
        NOT_FOUND when the host offers no events. Nothing that happened while there was no
        connection is told later.
        """

    async def aclose(self) -> None:
        """Close the connections; call it in the loop that made them."""
