"""Routes below `/api/v2/`."""

from __future__ import annotations

from hosts.api import enrolment_tokens, hosts, looks
from orchestrator.api.routing import route

urlpatterns = [
    route("enrolment-tokens/", enrolment_tokens.EnrolmentTokenList, "enrolment-tokens"),
    route(
        "enrolment-tokens/<uuid:id>/revoke/",
        enrolment_tokens.EnrolmentTokenRevoke,
        "enrolment-token-revoke",
    ),
    route("hosts/", hosts.HostList, "hosts"),
    route("hosts/<uuid:id>/", hosts.HostItem, "host"),
    route("hosts/<uuid:id>/vms/", hosts.HostVMs, "host-vms"),
    route("hosts/<uuid:id>/cordon/", hosts.HostCordon, "host-cordon"),
    route("hosts/<uuid:id>/uncordon/", hosts.HostUncordon, "host-uncordon"),
    route("hosts/<uuid:id>/disable/", hosts.HostDisable, "host-disable"),
    route("hosts/<uuid:id>/enable/", hosts.HostEnable, "host-enable"),
    route("hosts/<uuid:id>/maintain/", hosts.HostMaintain, "host-maintain"),
    route("hosts/<uuid:id>/holds/", hosts.HostHolds, "host-holds"),
    route("hosts/<uuid:id>/holds/<uuid:hold>/end/", hosts.HostHoldEnd, "host-hold-end"),
    route("hosts/<uuid:id>/inventory/", hosts.HostInventory, "host-inventory"),
    route("hosts/<uuid:id>/logs/", looks.HostLogs, "host-logs"),
    route("hosts/<uuid:id>/reverse-proxy/", looks.HostReverseProxy, "host-reverse-proxy"),
    route("hosts/<uuid:id>/register/", looks.HostRegister, "host-register"),
    route("hosts/<uuid:id>/unregister/", looks.HostUnregister, "host-unregister"),
]
