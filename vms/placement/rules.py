"""The rules that a host must pass for a VM, and the score of those that do. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from catalog.downloads import needed_gib

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from hosts.capacity import Size

RESOURCE_WORDS = {
    "cpus": "CPUs",
    "memory_mib": "MiB of memory",
    "disk_gib": "GiB of disk",
    "macos_slots": "macOS slots",
}


@dataclass(frozen=True)
class ImageView:
    """An image as placement sees it."""

    id: UUID
    key: tuple[str, str]  # catalog id in upper case, version
    architecture: str
    macos: bool
    pack_size_mib: int | None
    minimum: Mapping[str, int] = field(default_factory=dict)  # what a host must have for it


@dataclass(frozen=True)
class Wish:
    """What a pending VM asks of a host."""

    size: Size  # without the macOS slot, which depends on the image
    images: Mapping[str, ImageView]  # by architecture; empty for a clone
    clone_of: str = ""
    macos: bool = False  # a clone of a macOS guest
    tags: frozenset[str] = frozenset()
    any_tags: frozenset[str] = frozenset()  # one of these is enough; in lower case
    architecture: str = ""  # of the host, when one was asked for
    host_id: UUID | None = None  # picked by a person
    tried: frozenset[UUID] = frozenset()

    def image_on(self, host: HostView) -> ImageView | None:
        return self.images.get(host.architecture)

    def macos_slots_on(self, host: HostView) -> int:
        """Return 1 for a macOS guest on Apple silicon, which allows only two at once."""
        image = self.image_on(host)
        macos = image.macos if image else self.macos
        return int(macos and host.architecture == "arm64")


@dataclass
class HostView:
    """A host as placement sees it; `free` is counted down while a pass places VMs."""

    id: UUID
    name: str
    healthy: bool
    health: str
    architecture: str
    tags: frozenset[str]
    holds: tuple[str, ...]
    on_probation: bool  # in quarantine, but one VM may try it
    total: dict[str, int]  # less what the system reserves
    free: dict[str, int]
    overcommitted: bool
    disk_free_gib: int
    shared_volume: bool | None
    latency_ms: float | None
    cached: frozenset[tuple[str, str, str]] = frozenset()  # catalog id, version, architecture
    vm_names: frozenset[str] = frozenset()
    recent_failures: int = 0

    def has(self, image: ImageView) -> bool:
        """Return whether the host has the image cached; some hosts do not name architectures."""
        return any((*image.key, arch) in self.cached for arch in ("", image.architecture))


@dataclass(frozen=True)
class Rejection:
    """The first rule that a host fails."""

    rule: str
    detail: str


@dataclass(frozen=True)
class Score:
    """How good a host is for a VM; the parts explain the total."""

    parts: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return round(sum(self.parts.values()), 2)


def _picked(wish: Wish, host: HostView) -> str:
    if wish.host_id and wish.host_id != host.id:
        return "another host was picked"
    return ""


def _not_tried(wish: Wish, host: HostView) -> str:
    return "it was tried for this VM before" if host.id in wish.tried else ""


def _architecture(wish: Wish, host: HostView) -> str:
    if wish.architecture and host.architecture != wish.architecture:
        return f"it is {host.architecture or 'of unknown architecture'}, not {wish.architecture}"
    if wish.images and host.architecture not in wish.images:
        return f"it is {host.architecture or 'of unknown architecture'}, not {_or(wish.images)}"
    return ""


def _tags(wish: Wish, host: HostView) -> str:
    missing = wish.tags - host.tags
    if missing:
        return f"it lacks the tag {_or(sorted(missing))}"
    if wish.any_tags and wish.any_tags.isdisjoint(tag.casefold() for tag in host.tags):
        return f"it has no tag {_or(sorted(wish.any_tags))}"
    return ""


def _clone_source(wish: Wish, host: HostView) -> str:
    if wish.clone_of and wish.clone_of not in host.vm_names:
        return f"the VM {wish.clone_of} to clone is not on it"
    return ""


def _requirements(wish: Wish, host: HostView) -> str:
    image = wish.image_on(host)
    minimum = image.minimum if image else {}
    return _lacking(minimum, host.total, "its image wants a host with {needs} {what}")


def _large_enough(wish: Wish, host: HostView) -> str:
    return _lacking(needs(wish, host), host.total, "it has only {has} {what} for VMs")


def _no_hold(wish: Wish, host: HostView) -> str:
    return host.holds[0] if host.holds else ""


def _healthy(wish: Wish, host: HostView) -> str:
    return "" if host.healthy else f"it is {host.health}"


def _not_overcommitted(wish: Wish, host: HostView) -> str:
    return "it is over-committed" if host.overcommitted else ""


def _room(wish: Wish, host: HostView) -> str:
    return _lacking(needs(wish, host), host.free, "only {has} of {needs} {what} are free")


def _room_for_download(wish: Wish, host: HostView) -> str:
    image = wish.image_on(host)
    if image is None or image.pack_size_mib is None or host.has(image):
        return ""
    needs = needed_gib(image.pack_size_mib, host.shared_volume)
    if host.disk_free_gib < needs:
        return f"the image is not cached and its download needs {needs} GiB of free disk"
    return ""


# Rules that say whether a host could ever take the VM, and rules that only say "not now".
EVER: dict[str, Callable[[Wish, HostView], str]] = {
    "picked": _picked,
    "tried": _not_tried,
    "architecture": _architecture,
    "tags": _tags,
    "clone_source": _clone_source,
    "requirements": _requirements,
    "size": _large_enough,
}
NOW: dict[str, Callable[[Wish, HostView], str]] = {
    "hold": _no_hold,
    "health": _healthy,
    "overcommitted": _not_overcommitted,
    "capacity": _room,
    "disk": _room_for_download,
}


def reject(wish: Wish, host: HostView) -> Rejection | None:
    """Return the first rule that `host` fails for `wish`; None when it may have the VM."""
    for rules in (EVER, NOW):
        for name, rule in rules.items():
            if detail := rule(wish, host):
                return Rejection(name, detail)
    return None


def could_ever(wish: Wish, host: HostView) -> bool:
    """Return whether the host could take the VM once it has room and nothing holds it."""
    return not any(rule(wish, host) for rule in EVER.values())


def score(wish: Wish, host: HostView, weights: Mapping[str, float], strategy: str) -> Score:
    """Score a host that passed: cached image, balance (spread or pack), latency, failures."""
    image = wish.image_on(host)
    wanted = needs(wish, host)
    left = [
        (host.free[resource] - need) / host.total[resource]
        for resource, need in wanted.items()
        if need and host.total[resource]
    ]
    emptiness = sum(left) / len(left) if left else 0.0
    latency = min(host.latency_ms or 0.0, 1000.0) / 1000.0
    return Score(
        {
            "cached": weights["cached"] if image and host.has(image) else 0.0,
            "balance": round(
                weights["balance"] * (emptiness if strategy == "spread" else 1 - emptiness), 2
            ),
            "latency": round(weights["latency"] * (1 - latency), 2),
            "failures": -round(weights["failures"] * min(1.0, host.recent_failures / 3), 2),
        }
    )


def needs(wish: Wish, host: HostView) -> dict[str, int]:
    """Return what `wish` would take of `host`, by resource."""
    return {
        "cpus": wish.size.cpus,
        "memory_mib": wish.size.memory_mib,
        "disk_gib": wish.size.disk_gib,
        "macos_slots": wish.macos_slots_on(host),
    }


def _lacking(needs: Mapping[str, int], has: Mapping[str, int], sentence: str) -> str:
    for resource, need in needs.items():
        if need and need > has[resource]:
            return sentence.format(
                has=max(0, has[resource]), needs=need, what=RESOURCE_WORDS[resource]
            )
    return ""


def _or(words: object) -> str:
    return " or ".join(words)  # type: ignore[arg-type]
