"""The routes of hosts."""

from __future__ import annotations

from compat.hosts import endpoints, proxies
from compat.wire.endpoints import route

_ONE = "orchestrator/hosts/<str:host>"
_PROXY = f"{_ONE}/reverse-proxy/hosts/<str:proxy>"

urlpatterns = [
    route("host-ended/<str:verb>/<uuid:job>", endpoints.HostEnded, "host-ended"),
    route("orchestrator/overview/resources", endpoints.Overview, "overview"),
    route("orchestrator/overview/<str:host>/resources", endpoints.HostOverview, "host-overview"),
    route("orchestrator/enrollment-token", endpoints.EnrolmentToken, "enrolment-token"),
    route(
        "orchestrator/enrollment-token/<str:token>/validate",
        endpoints.EnrolmentTokenCheck,
        "enrolment-token-check",
    ),
    route("orchestrator/hosts", endpoints.HostList, "hosts"),
    route(_ONE, endpoints.HostItem, "host"),
    route(f"{_ONE}/enable", endpoints.HostEnable, "host-enable"),
    route(f"{_ONE}/disable", endpoints.HostDisable, "host-disable"),
    route(f"{_ONE}/hardware", endpoints.HostHardware, "host-hardware"),
    route(f"{_ONE}/logs", endpoints.HostLogs, "host-logs"),
    route(f"{_ONE}/machines/register", endpoints.Register, "host-register"),
    route(f"{_ONE}/machines/<str:id>/unregister", endpoints.Unregister, "host-unregister"),
    # Both spellings: VS Code still has the older one.
    *(
        route(f"{_ONE}/{cache}{rest}", view, f"host-{name}-{number}")
        for number, cache in enumerate(("cache", "catalog/cache"))
        for rest, view, name in (
            ("", endpoints.HostCache, "cache"),
            ("/<str:catalog>", endpoints.CachedImage, "cached"),
            ("/<str:catalog>/<str:version>", endpoints.CachedImage, "cached-version"),
        )
    ),
    route("reverse-proxy", proxies.PoolProxy, "pool-proxy"),
    route("reverse-proxy/hosts", proxies.PoolProxyHosts, "pool-proxy-hosts"),
    route(f"{_ONE}/reverse-proxy", proxies.Proxy, "proxy"),
    *(
        route(f"{_ONE}/reverse-proxy/{verb}", proxies.ProxySwitch, f"proxy-{verb}", verb=verb)
        for verb in ("enable", "disable", "restart")
    ),
    route(f"{_ONE}/reverse-proxy/hosts", proxies.ProxyHosts, "proxy-hosts"),
    route(_PROXY, proxies.ProxyHost, "proxy-host"),
    route(f"{_PROXY}/http_routes", proxies.HttpRoutes, "proxy-routes"),
    route(f"{_PROXY}/http_routes/order", proxies.HttpRouteOrder, "proxy-order"),
    route(f"{_PROXY}/http_routes/<str:id>", proxies.HttpRoute, "proxy-route"),
    route(f"{_PROXY}/tcp_route", proxies.TcpRoute, "proxy-tcp-route"),
]
