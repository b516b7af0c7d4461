"""What the contract has and this product does not offer: answered with 501 and a sentence."""

from __future__ import annotations

from compat.wire.endpoints import Refused, route

_DEPLOY = (
    "Installing a host over SSH is not offered: it would run a script from the network with the "
    "password of an administrator. Install the host, and enrol it with its address."
)
_PACKER = "Packer templates are not offered. Make images with your own pipeline and push them."
_TOOLS = "Installing and restarting software on hosts is not offered. Use your device management."
_SSH = "Running SSH from this server is not offered. Use execute on a machine."
_SHUTDOWN = "Shutting this server down by a request is not offered. Use its service manager."
_PERFORMANCE = "A load test of the database by a request is not offered. Read /metrics."
_DISKSPACE = "Measuring folders of this server is not offered. Read the hardware of a host."
_DEBUG_JOBS = "Jobs that only pretend are not offered."
_LOGS = "The log of this server is for who operates it. Read that of a host."
POOL_PROXY = (
    "A pool has no proxy of its own. Name the host: /orchestrator/hosts/{id}/reverse-proxy."
)
_PROXY_HOST = "reverse-proxy/hosts/<str:id>"
_PROXY_PARTS = ("", "/http_routes", "/http_routes/<str:route>", "/tcp_route")
_MACHINES = "A pool has no disk of its own. Use /orchestrator/hosts/{id}/machines."

urlpatterns = [
    route("shutdown", Refused, "shutdown", why=_SHUTDOWN),
    route("orchestrator/hosts/deploy", Refused, "deploy", why=_DEPLOY),
    route("orchestrator/hosts/deploy/async", Refused, "deploy-async", why=_DEPLOY),
    route("templates/packer", Refused, "packer-templates", why=_PACKER),
    route("templates/packer/<str:id>", Refused, "packer-template", why=_PACKER),
    route("config/tools/install", Refused, "tools-install", why=_TOOLS),
    route("config/tools/uninstall", Refused, "tools-uninstall", why=_TOOLS),
    route("config/tools/restart", Refused, "tools-restart", why=_TOOLS),
    route("ssh/execute", Refused, "ssh-execute", why=_SSH),
    route("performance/db", Refused, "performance-db", why=_PERFORMANCE),
    route("config/diskspace", Refused, "diskspace", why=_DISKSPACE),
    route("jobs/debug", Refused, "jobs-debug", why=_DEBUG_JOBS),
    route("logs", Refused, "logs", why=_LOGS),
    route("logs/stream", Refused, "logs-stream", why=_LOGS),
    route("machines/register", Refused, "machine-register", why=_MACHINES),
    route("machines/<str:id>/unregister", Refused, "machine-unregister", why=_MACHINES),
    *(
        route(f"reverse-proxy/{verb}", Refused, f"pool-proxy-{verb}", why=POOL_PROXY)
        for verb in ("enable", "disable", "restart")
    ),
    *(
        route(f"{_PROXY_HOST}{rest}", Refused, f"pool-proxy-host{number}", why=POOL_PROXY)
        for number, rest in enumerate(
            ("", "/http_routes", "/http_routes/<str:route>", "/tcp_route")
        )
    ),
]
