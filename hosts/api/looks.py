"""Reads that ask a host at once, and what comes to its list of VMs or leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from drf_spectacular.utils import OpenApiParameter
from rest_framework.response import Response

from hosts import looking, registering
from hosts.api import serializers
from hosts.api.hosts import HostVerb, HostView
from hosts.drivers.base import ReverseProxy

if TYPE_CHECKING:
    from rest_framework.request import Request

    from hosts.models import Host
    from jobs.models import Job


class HostRegister(HostVerb):
    input = serializers.RegisterInput
    docs = {"POST": "Have a host list a VM that lies on its disk. It is foreign then."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return registering.register(self.actor, target, **data)


class HostUnregister(HostVerb):
    input = serializers.UnregisterInput
    docs = {"POST": "Have a host list a foreign, stopped VM no longer. It stays on its disk."}

    def act(self, target: Host, data: dict[str, Any]) -> Job:
        return registering.unregister(self.actor, target, **data)


class HostLook(HostView):
    """A read that asks the host at once."""

    asks_host: ClassVar[bool] = True


class HostLogs(HostLook):
    output = serializers.LogsOutput
    docs = {"GET": "Read the end of a host's log, from the host, at once. Secrets are hidden."}
    query: ClassVar[dict[str, list[Any]]] = {
        "GET": [
            OpenApiParameter(
                "lines",
                {"type": "integer", "minimum": 1, "maximum": looking.MAXIMUM_LINES},
                description=f"Default: {looking.LINES}.",
            )
        ]
    }

    def get(self, request: Request, **kwargs: Any) -> Response:
        text = request.query_params.get("lines", str(looking.LINES))
        lines = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
        found = looking.logs(self.actor, self.target(), lines)
        return Response(self.represent({"lines": found}))


class HostReverseProxy(HostLook):
    output = serializers.ReverseProxyOutput
    docs = {"GET": "Read what a host's reverse proxy does, from the host, at once."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        proxy = looking.reverse_proxy(self.actor, self.target())
        none = ReverseProxy(enabled=False, host="", port="", hosts=())
        return Response(self.represent({"available": proxy is not None, **vars(proxy or none)}))
