"""Where a webhook may go: never to this machine or to what only a machine in this place may ask."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from orchestrator.addresses import is_forbidden, is_loopback
from orchestrator.refusals import Invalid

MAXIMUM_URL = 500


@dataclass(frozen=True)
class Target:
    """An address that was looked up and may be connected to. The name is looked up only once."""

    scheme: str
    host: str
    ip: str
    port: int
    path: str

    @property
    def url(self) -> str:
        ip = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{self.scheme}://{ip}:{self.port}{self.path}"

    @property
    def host_header(self) -> str:
        default = 443 if self.scheme == "https" else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == default else f"{host}:{self.port}"


def checked_url(url: str) -> str:
    """Return the URL without spaces around it; raises `Invalid` for one that is no web address."""
    url = url.strip()
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise Invalid.field("url", "Give an address that begins with https:// or http://.")
    if parts.username or parts.password:
        raise Invalid.field("url", "Leave user and password out: what is sent is signed.")
    if len(url) > MAXIMUM_URL or not url.isprintable() or parts.fragment:
        raise Invalid.field("url", f"Give an address of at most {MAXIMUM_URL} characters, no #.")
    return url


def look_up(url: str) -> Target:
    """Return where `url` leads now. Raises `Invalid` when that is nowhere, or not allowed."""
    parts = urlsplit(checked_url(url))
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Invalid.field("url", f"No machine named {host} was found.") from None
    path = parts.path or "/"
    for *_, address in found:
        ip = str(address[0]).partition("%")[0]
        if is_allowed(ip):
            query = f"?{parts.query}" if parts.query else ""
            return Target(parts.scheme, host, ip, port, path + query)
    raise Invalid.field(
        "url",
        f"Webhooks do not go to {host}: it is this machine, or an address that only machines of "
        "this network may ask.",
    )


def is_allowed(text: str) -> bool:
    """Return whether a webhook may go to this IP address. Private networks are normal here."""
    if is_loopback(text):
        return bool(settings.WEBHOOK_ALLOW_LOOPBACK)
    return not is_forbidden(text)
