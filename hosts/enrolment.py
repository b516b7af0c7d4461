"""Enrolling hosts and changing what we know of them. The connection is tried first."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction

from accounts.audit import audit, changed
from events.publishing import publish
from hosts import inventory
from hosts.calls import limits
from hosts.drivers import normalise_fingerprint, normalise_url, open_driver
from hosts.drivers.base import Connection, ErrorKind, HostError
from hosts.health import Vitals, settle
from hosts.lifecycle import Listing
from hosts.models import Host, HostCapacity, HostStatus
from orchestrator.addresses import is_forbidden
from orchestrator.db.clock import database_now
from orchestrator.db.locks import take
from orchestrator.refusals import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from accounts.actors import Actor
    from hosts.drivers.base import Hardware, Inventory

    Burns = Callable[[Host], None]

NAME_LENGTH = 100
TAG_LENGTH = 50
MAXIMUM_TAGS = 30

# By kind of trouble: the field to look at, and the code of the refusal.
_REFUSALS = {
    ErrorKind.NAME_NOT_FOUND: ("url", "host_name_not_found"),
    ErrorKind.FORBIDDEN_ADDRESS: ("url", "host_forbidden_address"),
    ErrorKind.REFUSED: ("url", "host_refused"),
    ErrorKind.DISCONNECTED: ("url", "host_disconnected"),
    ErrorKind.TIMEOUT: ("url", "host_timeout"),
    ErrorKind.TLS_UNTRUSTED: ("tls_fingerprint", "host_tls_untrusted"),
    ErrorKind.NOT_DEVOPS: ("url", "host_not_devops"),
    ErrorKind.UNSUPPORTED_VERSION: ("url", "host_unsupported_version"),
    ErrorKind.BAD_ANSWER: ("url", "host_bad_answer"),
    ErrorKind.TOO_LARGE: ("url", "host_bad_answer"),
}


FORBIDDEN = (
    "This leads to an address that no host may have: link-local, or where a cloud tells about its "
    "machines. Enter the host's own address."
)


class TlsUntrusted(Invalid):
    """The host shows a certificate that is not trusted. `fingerprint` (SHA-256) can be pinned."""

    def __init__(self, message: str, fingerprint: str) -> None:
        super().__init__(message, code="host_tls_untrusted", errors={"tls_fingerprint": [message]})
        self.fingerprint = fingerprint


@dataclass(frozen=True)
class Found:
    """What answers at the address `url` (normalised), with the inventory begun at `began_at`."""

    url: str
    began_at: datetime
    latency_ms: float
    inventory: Inventory
    tls_fingerprint: str = ""

    @property
    def hardware(self) -> Hardware:
        return self.inventory.hardware

    @property
    def vm_count(self) -> int:
        return len(self.inventory.vms)


def try_connection(
    url: str,
    username: str = "",
    password: str = "",
    api_key: str = "",
    tls_fingerprint: str = "",
) -> Found:
    """Connect to a host, log in and read its inventory. Call it outside any transaction.

    Raises `Invalid` with a code and a sentence of its own for everything that can be wrong, and
    `TlsUntrusted` with the fingerprint that the host showed.
    """
    connection = _checked_connection(url, username, password, api_key, tls_fingerprint)
    began_at = database_now()
    try:
        driver = open_driver("parallels", connection, limits=limits())
        try:
            latency_ms = driver.probe()
            found = driver.inventory()
        finally:
            driver.close()
    except HostError as error:
        _refuse(error, connection)
    return Found(connection.url, began_at, latency_ms, found, connection.tls_fingerprint)


def _checked_connection(
    url: str, username: str, password: str, api_key: str, tls_fingerprint: str
) -> Connection:
    try:
        url = normalise_url(url)
    except ValueError as error:
        raise Invalid.field("url", str(error)) from None
    if len(url) > 300:
        raise Invalid.field("url", "The address is longer than 300 characters.")
    _refuse_forbidden(url)
    try:
        tls_fingerprint = normalise_fingerprint(tls_fingerprint) if tls_fingerprint.strip() else ""
    except ValueError as error:
        raise Invalid.field("tls_fingerprint", str(error)) from None
    username, api_key = username.strip(), api_key.strip()
    if len(username) > 200:
        raise Invalid.field("username", "The user name is longer than 200 characters.")
    if api_key and (username or password):
        raise Invalid.field(
            "api_key", "Enter either a user name and password, or an API key, not both."
        )
    if not api_key and not username:
        raise Invalid.field("username", "Enter a user name and password, or an API key.")
    if not api_key and not password:
        raise Invalid.field("password", "Enter the password of this user.")
    return Connection(url, username, password, api_key, tls_fingerprint)


def _refuse_forbidden(url: str) -> None:
    """Say no before anything is connected; the driver looks again at where it is connected."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return  # nobody there: the driver says it better
    if any(is_forbidden(str(address[0])) for *_, address in found):
        raise Invalid(FORBIDDEN, code="host_forbidden_address", errors={"url": [FORBIDDEN]})


def _refuse(error: HostError, connection: Connection) -> NoReturn:
    """Turn what the host said into a refusal at the field that can put it right."""
    if error.kind is ErrorKind.TLS_UNTRUSTED and error.fingerprint:
        raise TlsUntrusted(
            f"{error.message} It shows {error.fingerprint} (SHA-256).", error.fingerprint
        ) from error
    if error.kind is ErrorKind.CREDENTIALS:
        field, code = ("api_key" if connection.api_key else "password"), "host_credentials"
    else:
        field, code = _REFUSALS.get(error.kind, ("url", "host_failed"))
    raise Invalid(error.message, code=code, errors={field: [error.message]}) from error


def enrol(
    actor: Actor,
    *,
    name: str,
    url: str,
    username: str = "",
    password: str = "",
    api_key: str = "",
    tags: Iterable[str] = (),
    tls_fingerprint: str = "",
    allow_known_machine: bool = False,
    found: Found | None = None,
    burns: Burns | None = None,
) -> Host:
    """Add a host to the pool, with its first inventory, so that it takes VMs at once.

    `burns` is called in the transaction, and may refuse. Raises `Forbidden` without `hosts.manage`,
    `Invalid` for bad values, for everything that `try_connection` refuses, and when the machine is
    enrolled already: under this URL (`host_enrolled`), or under another (`host_known_machine`)
    unless that is allowed.
    """
    actor.require("hosts.manage")
    name, tags = checked_name(name), checked_tags(tags)
    _refuse_taken(
        name=name, url=_checked_connection(url, username, password, api_key, tls_fingerprint).url
    )
    found = found or try_connection(url, username, password, api_key, tls_fingerprint)
    if not allow_known_machine:
        _refuse_known_machine(found)
    host = Host(
        name=name,
        url=found.url,
        username=username.strip(),
        password=password,
        api_key=api_key.strip(),
        tls_fingerprint=found.tls_fingerprint,
        hardware_id=found.hardware.hardware_id[:100],
        tags=tags,
        added_by=actor.user,
    )
    try:
        with transaction.atomic():
            actor.take()
            actor.require("hosts.manage")  # the host took its time: the right may be gone
            host.save(force_insert=True)
            if burns:
                burns(host)
            _store_first_sight(host, found)
            _tell_enrolled(actor, host)
    except IntegrityError:
        _refuse_taken(name=name, url=found.url)
        raise
    return host


def _store_first_sight(host: Host, found: Found) -> None:
    now = database_now()
    status = HostStatus.objects.create(
        host=host,
        latency_ms=found.latency_ms,
        last_seen_at=now,
        next_poll_at=now,
        inventory_due_at=found.began_at - timedelta(seconds=1),
    )
    HostCapacity.objects.create(host=host)
    inventory.record(host, Listing(found.began_at, found.inventory))
    status.refresh_from_db()
    before = Vitals.of(status)
    after = before.answered()  # a new host's first good answer is enough
    HostStatus.objects.filter(pk=host.pk).update(successes=after.successes)
    settle(host, before, after)


def _tell_enrolled(actor: Actor, host: Host) -> None:
    subject, about = f"host:{host.pk}", {"url": host.url, "tags": host.tags}
    audit(actor, "host.enrolled", subject, host.name, data=about)
    publish("host.enrolled", subject, {"name": host.name}, permission="hosts.view")


def update_host(
    actor: Actor,
    host: Host,
    *,
    name: str | None = None,
    tags: Iterable[str] | None = None,
    username: str | None = None,
    password: str | None = None,
    api_key: str | None = None,
    tls_fingerprint: str | None = None,
) -> Host:
    """Change what is given. New credentials or a new pin are tried first and then recorded.

    A user name or password takes the place of an API key, and the other way round. Raises
    `Forbidden`, `NotFound` for a removed host, and `Invalid` as `enrol`.
    """
    actor.require("hosts.manage")
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = checked_name(name)
        _refuse_taken(name=changes["name"], but=host)
    if tags is not None:
        changes["tags"] = checked_tags(tags)
    shown = {field: (getattr(host, field), value) for field, value in changes.items()}
    found = _try_new_connection(host, username, password, api_key, tls_fingerprint)
    if found:
        connection, seen = found
        changes |= {
            "username": connection.username,
            "password": connection.password,
            "api_key": connection.api_key,
            "tls_fingerprint": connection.tls_fingerprint,
            "hardware_id": seen.hardware.hardware_id[:100],
        }
    if not changes:
        return host
    try:
        with transaction.atomic():
            if not take(Host.objects.present().filter(pk=host.pk)):
                raise NotFound("This host was removed from the pool.")
            for field, value in changes.items():
                setattr(host, field, value)
            host.save(update_fields=list(changes))
            if found:
                inventory.record(host, Listing(found[1].began_at, found[1].inventory))
            data = changed(
                {field: before for field, (before, _) in shown.items()},
                {field: after for field, (_, after) in shown.items()},
            )
            if found:
                data["connection"] = "changed"
            audit(actor, "host.changed", f"host:{host.pk}", host.name, data=data)
            publish("host.changed", f"host:{host.pk}", {"name": host.name}, permission="hosts.view")
    except IntegrityError:
        host.refresh_from_db()
        _refuse_taken(name=changes.get("name", ""), but=host)
        raise
    return host


def _try_new_connection(
    host: Host,
    username: str | None,
    password: str | None,
    api_key: str | None,
    tls_fingerprint: str | None,
) -> tuple[Connection, Found] | None:
    """Try the host with what is new of its connection; None when nothing is."""
    if username is password is api_key is tls_fingerprint is None:
        return None
    by_key = bool(api_key) or (bool(host.api_key) and not username and not password)
    connection = _checked_connection(
        host.url,
        "" if by_key else (host.username if username is None else username),
        "" if by_key else (host.password if password is None else password),
        (api_key or host.api_key) if by_key else "",
        host.tls_fingerprint if tls_fingerprint is None else tls_fingerprint,
    )
    found = try_connection(
        connection.url,
        connection.username,
        connection.password,
        connection.api_key,
        connection.tls_fingerprint,
    )
    return connection, found


def checked_name(name: str) -> str:
    """Return the name without spaces around it; raises `Invalid`."""
    name = name.strip()
    if not name:
        raise Invalid.field("name", "Give the host a name.")
    if len(name) > NAME_LENGTH or not name.isprintable():
        raise Invalid.field(
            "name", f"A name is one line of at most {NAME_LENGTH} characters; choose a shorter one."
        )
    return name


def checked_tags(tags: Iterable[str]) -> list[str]:
    """Return the tags sorted, each once; raises `Invalid`."""
    found = sorted({tag.strip() for tag in tags} - {""})
    if len(found) > MAXIMUM_TAGS:
        raise Invalid.field("tags", f"A host has at most {MAXIMUM_TAGS} tags; leave some out.")
    for tag in found:
        if len(tag) > TAG_LENGTH or "," in tag or not tag.isprintable():
            raise Invalid.field(
                "tags", f"A tag has at most {TAG_LENGTH} characters and no comma: “{tag[:60]}”."
            )
    return found


def _refuse_taken(*, name: str = "", url: str = "", but: Host | None = None) -> None:
    others = Host.objects.present().exclude(pk__in=[but.pk] if but else [])
    if url and (other := others.filter(url=url).first()):
        message = f"This host is enrolled already, as {other.name}. Look for it in the list."
        raise Invalid(message, code="host_enrolled", errors={"url": [message]})
    if name and others.filter(name__iexact=name).exists():
        message = f"A host named {name} is enrolled already. Choose another name."
        raise Invalid(message, code="name_taken", errors={"name": [message]})


def _refuse_known_machine(found: Found) -> None:
    """Refuse a machine that is enrolled under another URL.

    Its hardware id tells. Where one of the two shows none, its VMs do: all that it lists (at least
    one) are listed for the other, because a few may be copies that kept their id.
    """
    identity = found.hardware.hardware_id[:100]
    others = Host.objects.present().defer("password", "api_key")
    known = others.filter(hardware_id=identity).first() if identity else None
    if known is None and (ids := {vm.id for vm in found.inventory.vms}):
        sharing = others.filter(listed_vms__host_vm_id=min(ids)).distinct()
        for other in sharing.filter(hardware_id="") if identity else sharing:
            if ids <= inventory.listed_ids(other.pk):
                known = other
                break
    if known:
        message = (
            f"This machine is enrolled already, as {known.name} at {known.url}. "
            "Use that one, or say that this is a different machine and enrol it anyway."
        )
        raise Invalid(message, code="host_known_machine", errors={"url": [message]})
