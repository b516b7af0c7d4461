"""Reverse proxies of hosts, relayed: the host keeps them, and is asked at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from compat.machines import finding
from compat.refused import POOL_PROXY
from compat.wire.answers import answer, empty
from compat.wire.endpoints import Endpoint, Refused
from hosts import relay
from orchestrator.refusals import Invalid, NotFound
from vms.models import Placement

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor
    from hosts.models import Host

TARGET = "target_vm_id"


def to_host(actor: Actor, host: Host, found: Any) -> Any:
    """Return a configuration with the ids of VMs that the host knows, in place of ours."""
    if isinstance(found, list):
        return [to_host(actor, host, one) for one in found]
    if not isinstance(found, dict):
        return found
    changed = {name: to_host(actor, host, value) for name, value in found.items()}
    if changed.get(TARGET):
        changed[TARGET] = _id_on_host(actor, host, str(changed[TARGET]))
    return changed


def _id_on_host(actor: Actor, host: Host, reference: str) -> str:
    try:
        vm = finding.machine(actor, reference, str(host.pk))
    except NotFound:
        if host.listed_vms.filter(host_vm_id=reference, claimed=False).exists():
            return reference
        raise
    at = vm.placements.filter(current=True, host=host).exclude(host_vm_id="").first()
    if at is None:
        raise NotFound(f"Virtual machine {reference} not found on {host.name}")
    return at.host_vm_id


def from_host(host: Host, found: Any) -> Any:
    """Return what a host says with our ids of our VMs."""
    at = Placement.objects.filter(host=host, current=True).exclude(host_vm_id="")
    ours = {their_id: str(vm_id) for their_id, vm_id in at.values_list("host_vm_id", "vm_id")}

    def translated(part: Any) -> Any:
        if isinstance(part, list):
            return [translated(one) for one in part]
        if isinstance(part, dict):
            return {
                name: ours.get(value, value) if name == TARGET else translated(value)
                for name, value in part.items()
            }
        return part

    return translated(found)


class Proxy(Endpoint):
    def get(self, request: HttpRequest, host: str) -> HttpResponse:
        return answer(relay.read(self.actor, finding.host_named(self.actor, host)))


class ProxySwitch(Endpoint):
    verb: ClassVar[str] = ""

    def put(self, request: HttpRequest, host: str) -> HttpResponse:
        relay.change(self.actor, finding.host_named(self.actor, host), "PUT", (self.verb,))
        return empty()


class ProxyEndpoint(Endpoint):
    """A call about what a proxy listens at."""

    def changed(
        self, host: str, method: str, *parts: str, body: Any = None, proxy: str = ""
    ) -> HttpResponse:
        """Relay a change of the proxy host `proxy`, if any, and show it as it is then."""
        found = finding.host_named(self.actor, host)
        self.actor.require("hosts.manage")
        path = list(parts)
        if proxy:
            proxy = str(relay.proxy_host(self.actor, found, proxy).get("id"))
            path = ["hosts", proxy, *parts]
        told = relay.change(self.actor, found, method, path, to_host(self.actor, found, body))
        if method == "DELETE":
            return empty()
        if proxy:  # hosts answer some of these with the part alone
            told = relay.proxy_host(self.actor, found, proxy)
        return answer(from_host(found, told or {}))

    def document(self) -> dict[str, Any]:
        """Return the body as it came. Raises `Invalid`."""
        found = self.parsed()
        if not isinstance(found, dict):
            raise Invalid("Invalid request body: it is not an object.")
        return found

    def parsed(self) -> Any:
        try:
            return json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise Invalid("Invalid request body: it is not JSON.") from None


class ProxyHosts(ProxyEndpoint):
    def get(self, request: HttpRequest, host: str) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        rows = from_host(found, relay.proxy_hosts(self.actor, found))
        return answer(self.filtered(rows))

    def post(self, request: HttpRequest, host: str) -> HttpResponse:
        return self.changed(host, "POST", "hosts", body=self.document())


class ProxyHost(ProxyEndpoint):
    def get(self, request: HttpRequest, host: str, proxy: str) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        return answer(from_host(found, relay.proxy_host(self.actor, found, proxy)))

    def put(self, request: HttpRequest, host: str, proxy: str) -> HttpResponse:
        return self.changed(host, "PUT", proxy=proxy, body=self.document())

    def delete(self, request: HttpRequest, host: str, proxy: str) -> HttpResponse:
        return self.changed(host, "DELETE", proxy=proxy)


class HttpRoutes(ProxyEndpoint):
    def post(self, request: HttpRequest, host: str, proxy: str) -> HttpResponse:
        return self.changed(host, "POST", "http_routes", proxy=proxy, body=self.document())


class HttpRoute(ProxyEndpoint):
    def delete(self, request: HttpRequest, host: str, proxy: str, id: str) -> HttpResponse:
        return self.changed(host, "DELETE", "http_routes", id, proxy=proxy)


class HttpRouteOrder(ProxyEndpoint):
    def put(self, request: HttpRequest, host: str, proxy: str) -> HttpResponse:
        rows = self.parsed()
        if not isinstance(rows, list):
            raise Invalid("Invalid request body: it is not a list.")
        return self.changed(host, "PUT", "http_routes", "order", proxy=proxy, body=rows)


class TcpRoute(ProxyEndpoint):
    def post(self, request: HttpRequest, host: str, proxy: str) -> HttpResponse:
        return self.changed(host, "POST", "tcp_route", proxy=proxy, body=self.document())


class PoolProxy(Endpoint):
    """The pool as one host has no proxy of its own; each host has."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return answer({"enabled": False, "host": "", "port": ""})


class PoolProxyHosts(Refused):
    why = POOL_PROXY

    def get(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        return answer([])
