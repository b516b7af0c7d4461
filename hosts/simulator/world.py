"""The state of the simulated pool: hosts, their VMs, jobs and cached images.

Only data and questions about it; what takes time is in ``machines``. Everything lives in memory.
Memory is in MiB and disk in GiB; the contract's MB is the same as our MiB.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from hosts.simulator.faults import CLOCK_SKEW_SECONDS, draw, host_is_hit
from hosts.simulator.guest import Disk
from hosts.simulator.options import Options
from hosts.simulator.wire import cut

if TYPE_CHECKING:
    from hosts.simulator.hub import Subscriber

RESERVED_CPUS = 1
RESERVED_MEMORY_MIB = 2048
RESERVED_DISK_GIB = 20
"""What a host keeps for itself, as in the contract's example 8.13."""

IMAGE_DISK_GIB = 64
"""Virtual disk of every VM made from an image: the contract never applies ``specs.disk``."""

PACK_SIZE_MIB = 10 * 1024
MAX_RUNNING_APPLE_VMS = 2
HOME = "/Users/parallels/Parallels"
"""The folder of the bundles of VMs."""
APPLE_VM = "APPLE_VZ_VM"

LOG_LINES = 1000

GOLDEN_CPUS = 1
GOLDEN_MEMORY_MIB = 1024
GOLDEN_DISK_GIB = 10


@dataclass(slots=True)
class Snapshot:
    """One snapshot; ``state`` in the host's words, ``poweron`` or ``poweroff``."""

    id: str
    name: str
    description: str
    taken_at: float
    state: str
    parent: str
    disk: Disk = field(default_factory=Disk)
    """What the guest kept then."""


@dataclass(slots=True, eq=False)
class VM:
    """One VM of a host. ``state`` is in the words of ``prlctl``."""

    id: str
    name: str
    state: str = "stopped"
    cpus: int = 2
    memory_mib: int = 2048
    disk_gib: int = IMAGE_DISK_GIB
    type: str = "VM"
    os: str = "ubuntu"
    user: str = "parallels"
    description: str = ""
    home: str = ""
    """Its bundle, when that is not named after it."""
    ip: str = ""
    booted_at: float = 0.0
    configuration: dict[str, Any] = field(default_factory=dict)
    """What `set` changed of it: "options" by flag, "folders" by name, "unplugged" devices."""
    snapshots: list[Snapshot] | None = None
    current_snapshot: str = ""
    disk: Disk = field(default_factory=Disk)
    gone: bool = False
    turn: int = 0
    """Counts state changes; a timer of an older turn has no effect."""
    arrival: asyncio.Future[bool] | None = None
    """Done when the state change under way has ended; false when force or delete cut it short."""

    @property
    def bundle(self) -> str:
        """The folder with its files, without a slash at the end."""
        return self.home or f"{HOME}/{self.name}.{'macvm' if self.type == APPLE_VM else 'pvm'}"

    @property
    def disk_used_gib(self) -> float:
        """Disks expand and clones are copy-on-write: a quarter of the virtual size is written."""
        return self.disk_gib / 4


@dataclass(slots=True, eq=False)
class Job:
    """A job of a host. Its progress is computed from ``begun`` when somebody looks."""

    id: str
    name: str
    created_at: float
    updated_at: float
    by_orchestrator: bool
    state: str = "pending"
    begun: float = 0.0
    pull_seconds: float = 0.0
    boot_seconds: float = 0.0
    cached: bool = False
    starts: bool = False
    record_id: str = ""
    record_name: str = ""
    result: str = ""
    error: str = ""
    operation: str = "machines/create"
    percent: int = 0
    """How far a push is; a create tells it by the time that has passed."""


@dataclass(slots=True)
class CachedImage:
    """An image in the cache of a host."""

    catalog_id: str
    version: str
    architecture: str
    kind: str
    cached_at: float
    used_at: float
    used_count: int = 1
    size_mib: int = PACK_SIZE_MIB


@dataclass(slots=True, eq=False)
class Host:
    """One simulated host. ``up`` and ``hang`` set by control win over the faults' choice."""

    world: World
    k: int
    arch: str
    cpus: int
    memory_mib: int
    disk_gib: int
    boot_seconds: float
    clone_seconds: float
    late_seconds: float
    slow_seconds: float
    latency_ms: float
    faults: dict[str, float]
    up: bool | None = None
    hang: bool | None = None
    state_method: str = "PUT"
    clock_offset_seconds: float | None = None
    vms: dict[str, VM] = field(default_factory=dict)
    bundles: dict[str, VM] = field(default_factory=dict)
    """Folders of VMs that are not registered (any more), by path."""
    jobs: dict[str, Job] = field(default_factory=dict)
    cache: dict[tuple[str, str], CachedImage] = field(default_factory=dict)
    pulls: dict[tuple[str, str], asyncio.Lock] = field(default_factory=dict)
    """With ``--packs``: one download of an image at a time."""
    counters: Counter[str] | None = None
    draws: dict[str, int] | None = None
    open_requests: set[asyncio.Transport] = field(default_factory=set)
    sessions: int = 0
    """Rises when ``authexpired`` strikes: tokens of an earlier session are refused."""
    addresses_given: int = 0
    renames_running: bool = True
    """Whether a VM that is not stopped may get another name."""
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    """What was asked of it but for reads; the newest line is the last."""
    proxy_hosts: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Files of its disk that can be copied into guests, by path."""
    pack_room: int | None = None
    """Bytes that one pack, or what is unpacked of it, may take; None does not bound them."""
    bundle_bytes: int = 64 * 1024
    """The disk of a bundle that is made because a VM without files is pushed."""
    events: bool = True
    """Whether it offers the events hub; hosts may be started without it."""
    subscribers: set[Subscriber] | None = None
    peak_cpus: int = 0
    peak_memory_mib: int = 0

    # -- identity and time -------------------------------------------------------------------

    @property
    def uuid(self) -> str:
        """The machine's hardware identity; the same for the same seed and k."""
        high, low = draw(self.world.options.seed, "uuid", self.k), draw(0, "uuid", self.k)
        return str(UUID(int=(int(high * 2**64) << 64) | int(low * 2**64), version=4))

    @property
    def serial(self) -> str:
        """A serial number unique for seed and k."""
        return f"SIM{int(draw(self.world.options.seed, 'serial', self.k) * 36**6):08X}{self.k:05d}"

    @property
    def external_ip(self) -> str:
        """An address of the benchmark range 198.18.0.0/15 (RFC 2544), unique per host."""
        n = (self.world.options.seed * 4099 + self.k) % 2**17
        return f"198.{18 + n // 2**16}.{n // 256 % 256}.{n % 256}"

    @property
    def clock_offset(self) -> float:
        """How many seconds the host's clock is ahead of ours."""
        if self.clock_offset_seconds is not None:
            return self.clock_offset_seconds
        return CLOCK_SKEW_SECONDS if self.has("clockskew") else 0.0

    def now(self) -> float:
        """Return the host's own idea of the Unix time."""
        return time.time() + self.clock_offset

    # -- faults ------------------------------------------------------------------------------

    def has(self, kind: str) -> bool:
        """Tell whether this host is among those hit by a fault of hosts."""
        share = self.faults.get(kind, 0.0)
        options = self.world.options
        return share > 0 and host_is_hit(options.seed, kind, self.k, options.count, share)

    def strikes(self, kind: str) -> bool:
        """Draw whether this request is hit by a fault of requests; each call is a new draw."""
        share = self.faults.get(kind, 0.0)
        if share <= 0:
            return False
        if self.draws is None:
            self.draws = {}
        nth = self.draws[kind] = self.draws.get(kind, 0) + 1
        return draw(self.world.options.seed, kind, self.k, nth) < share

    @property
    def is_up(self) -> bool:
        """Whether the host takes connections."""
        return not self.has("refuse") if self.up is None else self.up

    @property
    def hangs(self) -> bool:
        """Whether the host takes requests and never answers them."""
        return self.has("hang") if self.hang is None else self.hang

    # -- VMs ---------------------------------------------------------------------------------

    def find(self, id_or_name: str) -> VM | None:
        """Return the VM with this id (with or without braces), or else with this name."""
        vm = self.vms.get(id_or_name) or self.vms.get("{" + id_or_name + "}")
        return vm or self.by_name(id_or_name)

    def by_name(self, name: str) -> VM | None:
        """Return the VM of exactly this name."""
        return next((vm for vm in self.vms.values() if vm.name == name), None)

    def add(self, vm: VM) -> None:
        """Put a VM on the host and remember the highest load there ever was."""
        self.vms[vm.id] = vm
        self.note_load()

    def note_load(self) -> None:
        """Raise the peaks of what all VMs together, running or not, were promised."""
        self.peak_cpus = max(self.peak_cpus, sum(vm.cpus for vm in self.vms.values()))
        memory = sum(vm.memory_mib for vm in self.vms.values())
        self.peak_memory_mib = max(self.peak_memory_mib, memory)

    def next_address(self) -> str:
        """Return an address for a guest, unique in the whole pool while it is in use."""
        used = {vm.ip for vm in self.vms.values()}
        while True:
            self.addresses_given += 1
            last = self.addresses_given % 253 + 2
            ip = f"10.{(211 + self.k // 256) % 256}.{self.k % 256}.{last}"
            if ip not in used or len(used) > 253:
                return ip

    def running(self) -> Iterator[VM]:
        """Yield the VMs whose state is exactly ``running``: only they are in use (3.5)."""
        return (vm for vm in self.vms.values() if vm.state == "running")

    def disk_used_gib(self) -> float:
        """Return the disk in use: the system, what VMs have written, cached images."""
        written = self.written_gib()
        cached = sum(item.size_mib for item in self.cache.values()) / 1024
        return min(self.disk_gib, RESERVED_DISK_GIB + written + cached)

    def written_gib(self) -> float:
        """Return what all bundles take, those of VMs and those left over."""
        bundles = {
            vm.bundle: vm.disk_used_gib for vm in (*self.bundles.values(), *self.vms.values())
        }
        return sum(bundles.values())

    def folder_gib(self, path: str) -> float | None:
        """Return the size of a bundle, or of the folder of all; ``None`` for any other path."""
        if path == HOME:
            return self.written_gib()
        for vm in (*self.vms.values(), *self.bundles.values()):
            if vm.bundle == path:
                return vm.disk_used_gib
        return None

    def count(self, kind: str) -> None:
        """Count a request; control shows the numbers."""
        if self.counters is None:
            self.counters = Counter()
        self.counters[kind] += 1


class World:
    """All hosts, numbered from 1, and the work under way on them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.hosts: dict[int, Host] = {}
        self.port = options.port
        self.on_change: Callable[[], Awaitable[None]] = _nothing
        """Called after a control request; the server opens and closes sockets of hosts."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._build()

    def _build(self) -> None:
        options = self.options
        for k in range(1, options.count + 1):
            host = Host(
                world=self,
                k=k,
                arch=_architecture(options.arch, k),
                cpus=options.cpus,
                memory_mib=options.memory_mib,
                disk_gib=options.disk_gib,
                boot_seconds=options.boot_seconds,
                clone_seconds=options.clone_seconds,
                late_seconds=options.late_seconds,
                slow_seconds=options.slow_seconds,
                latency_ms=options.latency_ms,
                faults=options.faults,
            )
            self.hosts[k] = host
            for n in range(1, options.vms + 1):
                host.add(_golden(host, n))

    def reset(self) -> None:
        """Go back to the start: all VMs, jobs, faults and open requests of now are dropped."""
        self.cancel_work()
        dropped = list(self.hosts.values())
        self.hosts = {}
        self._build()
        for host in dropped:
            for transport in list(host.open_requests):
                cut(transport)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run work that goes on when the caller who asked for it has gone away."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel_work(self) -> None:
        """Stop all work under way."""
        for task in list(self._tasks):
            task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody waiting is no reason to complain


async def _nothing() -> None:
    """Do nothing: without addresses of their own, hosts have no sockets to open or close."""


def new_vm_id() -> str:
    """Return a fresh VM id in the host's form. Random: ids must differ between two runs."""
    return "{" + str(uuid4()) + "}"


def _architecture(wanted: str, k: int) -> str:
    if wanted == "mixed":
        return "x86_64" if k % 3 == 0 else "arm64"
    return wanted


def _golden(host: Host, n: int) -> VM:
    """Return foreign VM number ``n``; the even ones run."""
    seed = host.world.options.seed
    number = int(draw(seed, "golden", host.k, n) * 2**64) << 64
    number |= int(draw(seed, "nedlog", host.k, n) * 2**64)
    vm = VM(
        id="{" + str(UUID(int=number, version=4)) + "}",
        name=f"golden-{n}",
        cpus=GOLDEN_CPUS,
        memory_mib=GOLDEN_MEMORY_MIB,
        disk_gib=GOLDEN_DISK_GIB,
    )
    if n % 2 == 0:
        vm.state = "running"
        vm.booted_at = time.time()
        vm.ip = host.next_address()
    return vm
