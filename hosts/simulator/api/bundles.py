"""Registering bundles as VMs, and forgetting VMs (contract 2.3, 8.28)."""

from __future__ import annotations

from hosts.simulator import bundles, render
from hosts.simulator.api.machines import machine
from hosts.simulator.api.routing import route
from hosts.simulator.wire import Answer, Request


@route("POST", "machines/register", "register")
async def register(request: Request) -> Answer:
    """Make a VM of a bundle that is on the host's disk."""
    host, fields = request.host, await request.fields()
    vm = bundles.register(
        host,
        fields.needed("path", "Path").rstrip("/"),
        name=fields.text("machine_name"),
        user=fields.text("owner"),
        new_id=fields.flag("regenerate_source_uuid"),
    )
    return Answer(200, render.vm_record(host, vm))


@route("POST", "machines/*/unregister", "unregister")
async def unregister(request: Request) -> Answer:
    """Forget a VM; its bundle stays."""
    bundles.unregister(request.host, machine(request))
    return Answer(200, {"success": True})
