"""The log and the reverse proxy of a host (contract 2.7, 2.8)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from hosts.simulator.api.routing import route
from hosts.simulator.wire import Answer, RefusedError, Request


@route("GET", "logs", "logs")
async def logs(request: Request) -> Answer:
    """Return the whole log as text."""
    text = "".join(f"{line}\n" for line in request.host.log)
    return Answer(200, text.encode(), content_type="text/plain")


@route("GET", "reverse-proxy", "reverse_proxy")
async def reverse_proxy(request: Request) -> Answer:
    """Say where it listens; it is on when there is something to do."""
    is_on = bool(request.host.proxy_hosts)
    return Answer(200, {"enabled": is_on, "host": "0.0.0.0", "port": "8080"})


@route("GET", "reverse-proxy/hosts", "proxy_hosts")
async def proxy_hosts(request: Request) -> Answer:
    """List what it listens at."""
    return Answer(200, request.host.proxy_hosts)


@route("POST", "reverse-proxy/hosts", "proxy_host_create")
async def create_proxy_host(request: Request) -> Answer:
    """Add something to listen at; the simulator keeps it, and nobody listens."""
    fields = await request.fields()
    address, port = fields.needed("host", "Host"), fields.needed("port", "Port")
    hosts = request.host.proxy_hosts
    if any((one["host"], one["port"]) == (address, port) for one in hosts):
        raise RefusedError(400, f"error 400: proxy host {address}:{port} already exists")
    record: dict[str, Any] = {
        "id": str(uuid4()),
        "name": fields.text("name"),
        "host": address,
        "port": port,
        "http_routes": [
            {"id": str(uuid4()), "order": order, **row.data}
            for order, row in enumerate(fields.rows("http_routes"), 1)
        ],
    }
    for name in ("tls", "tcp_route"):
        if (inner := fields.inner(name)) is not None:
            record[name] = inner.data
    hosts.append(record)
    return Answer(201, record)
