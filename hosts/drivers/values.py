"""The values that a host driver returns or takes. Units as in `base`, which offers them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Architecture = Literal["arm64", "x86_64"]
VMType = Literal["pvm", "macvm"]


@dataclass(frozen=True)
class Hardware:
    """The machine and what runs on it. `reserved_*` is what the host keeps for itself."""

    architecture: Architecture
    cpu_brand: str
    total_cpus: int
    reserved_cpus: int
    total_memory_mib: int
    reserved_memory_mib: int
    total_disk_gib: int
    reserved_disk_gib: int
    free_disk_gib: int
    macos_slots: int
    devops_version: str
    os_name: str
    os_version: str
    desktop_version: str
    licensed: bool
    hardware_id: str
    """Tells the same machine under another URL; empty when the host has none to show."""
    modules: tuple[str, ...]
    cache_enabled: bool
    shared_volume: bool | None
    """Whether VMs and cache share a volume; None = the host does not say."""
    clock_offset_seconds: float | None
    """Host clock minus ours, to about a second; None = the host sends no Date."""


@dataclass(frozen=True)
class RemoteVM:
    """A VM as its host lists it. `state` is the host's word in lower case."""

    id: str
    name: str
    state: str
    type: VMType
    os: str
    cpus: int
    memory_mib: int
    disk_gib: int
    ip_address: str | None
    user: str
    home: str = ""
    """The folder of its files (its bundle), without a slash at the end; empty if not told."""


@dataclass(frozen=True)
class SharedFolder:
    """A folder of the host that a VM may see."""

    path: str
    writable: bool = False
    enabled: bool = True
    description: str = ""


@dataclass(frozen=True)
class Configuration:
    """What a host shows of how a VM is set up, beside its size.

    `options` are those of `hosts.drivers.options`; `devices` says of each whether it is connected.
    """

    options: Mapping[str, str]
    folders: Mapping[str, SharedFolder]
    devices: Mapping[str, bool]


@dataclass(frozen=True)
class Changes:
    """What of a VM's configuration is to change. Checked by the caller: nothing here is quoted."""

    options: Mapping[str, str] = field(default_factory=dict)
    added_folders: Mapping[str, SharedFolder] = field(default_factory=dict)
    changed_folders: Mapping[str, SharedFolder] = field(default_factory=dict)
    removed_folders: tuple[str, ...] = ()
    devices: Mapping[str, bool] = field(default_factory=dict)
    actions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(
            (
                self.options,
                self.added_folders,
                self.changed_folders,
                self.removed_folders,
                self.devices,
                self.actions,
            )
        )


@dataclass(frozen=True)
class VMStatus:
    id: str
    state: str
    ip_address: str | None


@dataclass(frozen=True)
class HostJob:
    """The host's own job behind an asynchronous call; `progress` is 0 to 100."""

    id: str
    state: str
    progress: int
    message: str
    error: str
    vm_id: str | None
    vm_name: str | None

    @property
    def is_final(self) -> bool:
        return self.state in {"completed", "failed", "skipped"}

    @property
    def succeeded(self) -> bool:
        return self.state == "completed"


@dataclass(frozen=True)
class CachedImage:
    catalog_id: str
    version: str
    architecture: str
    size_mib: int
    type: str
    cached_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class CreateSpec:
    """A VM to be made from a catalog image.

    `connection` (secret) or else `catalog_manager_id` says where the catalog is.
    """

    name: str
    architecture: str
    catalog_id: str
    version: str
    connection: str = field(repr=False)
    type: VMType
    cpus: int
    memory_mib: int
    start: bool
    owner: str = ""
    catalog_manager_id: str = ""


@dataclass(frozen=True)
class PushSpec:
    """A VM's folder on the host's disk that is to be packed into a catalog's storage.

    `connection` (secret) says where the storage is. Minimums: memory in MiB, disk in GiB.
    """

    local_path: str
    catalog_id: str
    version: str
    architecture: str
    connection: str = field(repr=False)
    description: str = ""
    compress: bool = True
    override: bool = False
    tags: tuple[str, ...] = ()
    required_roles: tuple[str, ...] = ()
    required_claims: tuple[str, ...] = ()
    minimum_cpus: int = 0
    minimum_memory_mib: int = 0
    minimum_disk_gib: int = 0


@dataclass(frozen=True)
class CreateAnswer:
    """Either the host's job to follow, or, from a host without jobs, the id of the finished VM."""

    host_job_id: str | None
    vm_id: str | None


@dataclass(frozen=True)
class ExecuteResult:
    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Snapshot:
    """A snapshot of a VM. `parent` is the id of the one that it was taken after, or empty."""

    id: str
    name: str
    parent: str
    taken_at: str
    """In the host's words: its own time, without a zone."""
    with_memory: bool
    """Taken while the VM ran: reverting to it makes the VM run."""
    current: bool


@dataclass(frozen=True)
class ProxyRoute:
    """Where a proxy sends what comes in: to a VM of the host (by its id there) or to an address."""

    path: str
    """Empty for all of a TCP port."""
    target: str
    target_is_vm: bool
    target_port: str


@dataclass(frozen=True)
class ProxyHost:
    """An address and port that a host's reverse proxy listens at."""

    id: str
    name: str
    host: str
    port: str
    tls: bool
    routes: tuple[ProxyRoute, ...]


@dataclass(frozen=True)
class ReverseProxy:
    enabled: bool
    host: str
    port: str
    hosts: tuple[ProxyHost, ...]


@dataclass(frozen=True)
class Inventory:
    """All that a host says about itself. `images` is None when it has no cache."""

    hardware: Hardware
    vms: tuple[RemoteVM, ...]
    images: tuple[CachedImage, ...] | None


Topic = Literal["stats", "log", "proxy", "traffic"]


@dataclass(frozen=True)
class Report:
    """What a host told of itself for others to see as it is: nothing of it is stored.

    `name` is the event in the host's words; `body` has plain values only, without secrets.
    """

    topic: Topic
    name: str
    body: Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class News:
    """What a host told by itself: a hint where to look, never what is.

    `listing` says that the host's list may be another than before. `vm_ids` and `job_ids` are the
    host's ids of what changed.
    """

    listing: bool = False
    vm_ids: frozenset[str] = frozenset()
    job_ids: frozenset[str] = frozenset()

    def __or__(self, other: News) -> News:
        return News(
            self.listing or other.listing,
            self.vm_ids | other.vm_ids,
            self.job_ids | other.job_ids,
        )
