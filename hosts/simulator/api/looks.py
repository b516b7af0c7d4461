"""The log and the reverse proxy of a host (contract 2.7, 2.8)."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from hosts.simulator import hub
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
    _tell(request, record, "running")
    if len(hosts) == 1:
        _tell_state(request)
    return Answer(201, record)


def _proxy_host(request: Request) -> dict[str, Any]:
    for one in request.host.proxy_hosts:
        if request.args[0] in (one["id"], f"{one['host']}:{one['port']}"):
            return one
    raise RefusedError(404, f"error 404: proxy host {request.args[0]} not found")


@route("GET", "reverse-proxy/hosts/*", "proxy_host")
async def proxy_host(request: Request) -> Answer:
    """Show one of what it listens at."""
    return Answer(200, _proxy_host(request))


@route("PUT", "reverse-proxy/hosts/*", "proxy_host_update")
async def update_proxy_host(request: Request) -> Answer:
    """Change one; what is not sent stays."""
    found = _proxy_host(request)
    fields = await request.fields()
    names = ("name", "host", "port", "tls", "cors", "tcp_route")
    found |= {name: fields.data[name] for name in names if fields.data.get(name) is not None}
    _tell(request, found, "running")
    return Answer(201, found)


@route("DELETE", "reverse-proxy/hosts/*", "proxy_host_delete")
async def delete_proxy_host(request: Request) -> Answer:
    """Listen there no longer."""
    found = _proxy_host(request)
    request.host.proxy_hosts.remove(found)
    _tell(request, found, "stopped")
    if not request.host.proxy_hosts:
        _tell_state(request)
    return Answer(202)


@route("POST", "reverse-proxy/hosts/*/http_routes", "proxy_route")
async def add_http_route(request: Request) -> Answer:
    """Add a route, or change the one of the same path."""
    found = _proxy_host(request)
    fields = await request.fields()
    routes = found["http_routes"]
    path = fields.text("path") or "/"
    same = next((one for one in routes if one.get("path") == path), None)
    if same is None:
        same = {"id": str(uuid4()), "order": len(routes) + 1}
        routes.append(same)
    same |= fields.data
    _tell_routes(request, found)
    return Answer(201, found)


@route("PUT", "reverse-proxy/hosts/*/http_routes/order", "proxy_order")
async def order_http_routes(request: Request) -> Answer:
    """Put the routes in another order."""
    found = _proxy_host(request)
    try:
        wanted = {row["id"]: int(row["order"]) for row in json.loads(await request.body())}
    except (ValueError, TypeError, KeyError):
        raise RefusedError(400, "Invalid request body: give ids with their order") from None
    for one in found["http_routes"]:
        one["order"] = wanted.get(one["id"], one["order"])
    found["http_routes"].sort(key=lambda one: one["order"])
    _tell_routes(request, found)
    return Answer(200, found)


@route("DELETE", "reverse-proxy/hosts/*/http_routes/*", "proxy_route_delete")
async def delete_http_route(request: Request) -> Answer:
    """Remove a route."""
    found = _proxy_host(request)
    left = [one for one in found["http_routes"] if one["id"] != request.args[1]]
    if len(left) == len(found["http_routes"]):
        raise RefusedError(404, f"error 404: route {request.args[1]} not found")
    found["http_routes"] = left
    _tell_routes(request, found)
    return Answer(202)


@route("POST", "reverse-proxy/hosts/*/tcp_route", "proxy_tcp_route")
async def set_tcp_route(request: Request) -> Answer:
    """Send all of a port to one place."""
    found = _proxy_host(request)
    found["tcp_route"] = {"id": str(uuid4()), **(await request.fields()).data}
    _tell_routes(request, found)
    return Answer(201, found)


@route("PUT", "reverse-proxy/enable", "proxy_enable")
@route("PUT", "reverse-proxy/disable", "proxy_disable")
@route("PUT", "reverse-proxy/restart", "proxy_restart")
async def switch_proxy(request: Request) -> Answer:
    """Take it: nobody listens in the simulator."""
    _tell_state(request)
    return Answer(202)


def _tell(request: Request, found: dict[str, Any], state: str) -> None:
    body = {"reverse_proxy_host_id": found["id"], "state": state}
    hub.tell(request.host, "reverse_proxy", "REVERSE_PROXY_HOST_STATE_CHANGED", body)


def _tell_routes(request: Request, found: dict[str, Any]) -> None:
    body = {"reverse_proxy_host_id": found["id"]}
    hub.tell(request.host, "reverse_proxy", "Reverse Proxy Route Updated", body)


def _tell_state(request: Request) -> None:
    is_on = bool(request.host.proxy_hosts)
    body = {"enabled": is_on, "state": "running" if is_on else "stopped"}
    hub.tell(request.host, "reverse_proxy", "REVERSE_PROXY_STATE_CHANGED", body)
