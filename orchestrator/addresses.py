"""IP addresses: where nothing that a person typed may lead, and where requests come from.

No connection goes to what only machines in this place may ask. Private networks are normal here,
so they are not refused. Imports neither Django nor a room.
"""

from __future__ import annotations

import ipaddress

# Clouds answer questions about a machine, and hand out its credentials, at link-local addresses
# and at these.
METADATA = {
    ipaddress.ip_address("fd00:ec2::254"),
    ipaddress.ip_address("100.100.100.200"),
    ipaddress.ip_address("192.0.0.192"),
}
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_forbidden(text: str) -> bool:
    """Return whether no connection may go to this IP address, in whatever way it is written."""
    ip = plain(text)
    if ip.is_loopback:
        return False
    return (
        ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved or ip in METADATA
    )


def is_loopback(text: str) -> bool:
    """Return whether this IP address is the machine itself."""
    return plain(text).is_loopback


def plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that is reached, which an IPv6 address may only wrap.

    Raises `ValueError` for what is no address.
    """
    ip = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return ip.ipv4_mapped
        if ip.sixtofour:
            return ip.sixtofour
        if ip in NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def of_client(text: str) -> str:
    """Return the address of a client as it is stored and compared; empty when it is none.

    The server in front (uvicorn) has replaced that of a trusted proxy by what the proxy tells, and
    a proxy may tell anything.
    """
    try:
        return str(plain(text))
    except ValueError:
        return ""
