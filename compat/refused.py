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
]
