"""What a revocation hits. Rooms above register here how it reaches their rows.

`preview` lists what will be hit and `apply` does it, with the same argument, so that a page shows
exactly what will happen. Entries run in the caller's transaction, after the revoked row was locked,
and call no host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from uuid import UUID

    from accounts.actors import Actor

CHOICES = ("keep", "stop", "delete")
COPY_CHOICES = ("keep", "delete")  # for copies of images in the caches of hosts


@dataclass(frozen=True)
class Held:
    """What an account has by its roles: their names, and the permissions that they give."""

    roles: frozenset[str]
    permissions: frozenset[str]


@dataclass(frozen=True)
class Bounds:
    """What a token may have from now on: any VMs, of which templates, how many that wait."""

    vms: bool = True
    templates: frozenset[str] | None = None
    maximum_vms: int | None = None


@dataclass(frozen=True)
class Revoked:
    """What is being revoked.

    `kind` is token, narrowing, user, use, rights, role, membership, grant, template or image. `use`
    is an account's right to ask for VMs; `rights` are its roles and permissions, of which `held` is
    what stays; `narrowing` is what of a token is outside of `bounds`. `user_id` narrows a
    membership to one account.
    """

    kind: str
    id: UUID
    user_id: UUID | None = None
    held: Held | None = None
    bounds: Bounds = Bounds()


@dataclass(frozen=True)
class Hit:
    """One thing that a revocation reaches."""

    kind: str  # "vm"
    id: UUID
    name: str
    state: str
    queued: bool  # waiting for a host: cancelled whatever is chosen for running VMs
    owner: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


class Preview(Protocol):
    def __call__(self, revoked: Revoked) -> list[Hit]: ...


class Apply(Protocol):
    def __call__(self, revoked: Revoked, running_vms: str, actor: Actor) -> list[Hit]: ...


_entries: list[tuple[Preview, Apply]] = []


def register(preview: Preview, apply: Apply) -> None:
    """Add how revocations reach one room's rows."""
    _entries.append((preview, apply))


def preview(revoked: Revoked) -> list[Hit]:
    """Return everything that revoking would hit now."""
    return [hit for entry, _ in _entries for hit in entry(revoked)]


def once(hits: list[Hit]) -> list[Hit]:
    """Return `hits` without those that several reasons reach more than once."""
    return list({(hit.kind, hit.id): hit for hit in hits}.values())


def apply(revoked: Revoked, running_vms: str, actor: Actor) -> list[Hit]:
    """Reach everything that the revocation hits; return it."""
    return [hit for _, entry in _entries for hit in entry(revoked, running_vms, actor)]


def check_choice(running_vms: str) -> str:
    """Return the choice for running VMs, or raise `Invalid`."""
    if running_vms not in CHOICES:
        raise Invalid.field("running_vms", f"Choose one of: {', '.join(CHOICES)}.")
    return running_vms
