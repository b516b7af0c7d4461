"""Routes below `/api/v2/`."""

from __future__ import annotations

from orchestrator.api.routing import route
from vms.api import machines, templates

urlpatterns = [
    route("templates/", templates.TemplateList, "templates"),
    route("templates/<uuid:id>/", templates.TemplateItem, "template"),
    route("templates/<uuid:id>/revoke/", templates.TemplateRevoke, "template-revoke"),
    route("grants/", templates.GrantList, "grants"),
    route("grants/<uuid:id>/", templates.GrantItem, "grant"),
    route("grants/<uuid:id>/impact/", templates.GrantImpact, "grant-impact"),
    route("grants/<uuid:id>/revoke/", templates.GrantRevoke, "grant-revoke"),
    route("tokens/", templates.TokenList, "tokens"),
    route("vms/", machines.VMList, "vms"),
    route("vms/<uuid:id>/", machines.VMItem, "vm"),
    route("vms/<uuid:id>/placement/", machines.VMPlacement, "vm-placement"),
    route("vms/<uuid:id>/start/", machines.VMStart, "vm-start"),
    route("vms/<uuid:id>/stop/", machines.VMStop, "vm-stop"),
    route("vms/<uuid:id>/suspend/", machines.VMSuspend, "vm-suspend"),
    route("vms/<uuid:id>/execute/", machines.VMExecute, "vm-execute"),
    route("vms/<uuid:id>/extend/", machines.VMExtend, "vm-extend"),
]
