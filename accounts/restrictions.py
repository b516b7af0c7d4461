"""What a token is narrowed to besides its scopes: templates, networks, VMs at once, an end."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils import timezone

from accounts.permissions import SCOPES
from orchestrator.addresses import plain
from orchestrator.refusals import Forbidden, Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from accounts.actors import Actor
    from accounts.models import ApiToken

MOST_NETWORKS = 50
MOST_VMS = 100_000
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class WrongNetwork(Forbidden):
    """The right secret, from where its token may not be used. `token` is what it belongs to."""

    default_code = "token_network"

    def __init__(self, token: ApiToken, address: str) -> None:
        super().__init__(
            f"This token may not be used from {address or 'an unknown address'}. Use it from its "
            "networks, or ask for one that may be used from here."
        )
        self.token = token


@dataclass(frozen=True)
class Restrictions:
    """None means: not narrowed in this."""

    templates: list[str] | None = None
    networks: list[str] | None = None
    maximum_vms: int | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, token: ApiToken) -> Restrictions:
        return cls(token.templates, token.networks, token.maximum_vms, token.expires_at)

    def are_within(self, other: Restrictions) -> bool:
        """Return whether these allow nothing that `other` does not."""
        ends, most = other.expires_at, other.maximum_vms
        return (
            (other.templates is None or _within(self.templates, other.templates))
            and (other.networks is None or _inside(self.networks, other.networks))
            and (ends is None or (self.expires_at is not None and self.expires_at <= ends))
            and (most is None or (self.maximum_vms is not None and self.maximum_vms <= most))
        )


def checked_scopes(scopes: Sequence[str]) -> list[str]:
    """Return scopes in the form in which they are kept. Raises `Invalid`."""
    if unknown := sorted(set(scopes) - SCOPES.keys()):
        raise Invalid.field(
            "scopes", f"There is no scope {', '.join(unknown)}. Scopes are: {', '.join(SCOPES)}."
        )
    if not scopes:
        raise Invalid.field("scopes", f"Choose at least one scope: {', '.join(SCOPES)}.")
    return sorted(set(scopes))


def checked(
    *,
    templates: Sequence[UUID] | None,
    networks: Sequence[str] | None,
    maximum_vms: int | None,
    expires_at: datetime | None,
) -> Restrictions:
    """Return restrictions in the form in which they are kept. Raises `Invalid`."""
    if expires_at and expires_at <= timezone.now():
        raise Invalid.field("expires_at", "The expiry lies in the past. Choose a later moment.")
    if maximum_vms is not None and not 1 <= maximum_vms <= MOST_VMS:
        raise Invalid.field("maximum_vms", f"Give a number from 1 to {MOST_VMS}.")
    return Restrictions(
        None if templates is None else sorted(str(pk) for pk in templates),
        None if networks is None else _networks(networks),
        maximum_vms,
        expires_at,
    )


def _networks(texts: Sequence[str]) -> list[str]:
    if not texts:
        raise Invalid.field("networks", "Name at least one network, such as 10.0.0.0/8.")
    if len(texts) > MOST_NETWORKS:
        raise Invalid.field("networks", f"Name at most {MOST_NETWORKS} networks.")
    found: set[Network] = set()
    for text in texts:
        try:
            found.add(ipaddress.ip_network(text.strip()))
        except ValueError:
            raise Invalid.field(
                "networks",
                f"“{text}” is no network. Write it as 10.0.0.0/8, 10.1.2.3 or fd00::/8, with no "
                "bits behind the prefix.",
            ) from None
    return [str(network) for network in sorted(found, key=lambda one: (one.version, one))]


def check_network(token: ApiToken, address: str) -> None:
    """Raise `WrongNetwork` unless `token` may be used from `address`; no address is none."""
    if token.networks is None:
        return
    try:
        ip = plain(address)
    except ValueError:
        raise WrongNetwork(token, "") from None
    # An address of the other version is in no network.
    if not any(ip in ipaddress.ip_network(text) for text in token.networks):
        raise WrongNetwork(token, address)


def require_no_wider(actor: Actor, wanted: Restrictions) -> None:
    """Raise `Forbidden` when the token in use may not hand out a token with these restrictions.

    Without a token everything may be handed out that the account may do.
    """
    if actor.token is None:
        return
    actor.require_scope("admin")
    own = Restrictions.of(actor.token)
    wider = None
    if own.templates is not None and not _within(wanted.templates, own.templates):
        wider = "to some templates"
    elif own.networks is not None and not _inside(wanted.networks, own.networks):
        wider = "to some networks"
    elif own.expires_at and not (wanted.expires_at and wanted.expires_at <= own.expires_at):
        wider = "to a time"
    elif own.maximum_vms is not None:
        wider = "to a number of VMs, which each token counts for itself"
    if wider:
        raise Forbidden(
            f"The token in use is narrowed {wider}; it cannot hand out a wider one. Use another.",
            code="token_scope",
        )


def _within(wanted: list[str] | None, own: list[str]) -> bool:
    return wanted is not None and set(wanted) <= set(own)


def _inside(wanted: list[str] | None, own: list[str]) -> bool:
    mine = [ipaddress.ip_network(text) for text in own]
    return wanted is not None and all(
        any(_is_part(ipaddress.ip_network(text), whole) for whole in mine) for text in wanted
    )


def _is_part(part: Network, whole: Network) -> bool:
    return part.version == whole.version and part.subnet_of(whole)  # type: ignore[arg-type]
