"""Routes below `/api/v2/`."""

from __future__ import annotations

from orchestrator.api.routing import route
from vms.api import draining, machines, residue, snapshots, templates

urlpatterns = [
    route("templates/", templates.TemplateList, "templates"),
    route("templates/<uuid:id>/", templates.TemplateItem, "template"),
    route("templates/<uuid:id>/revoke/", templates.TemplateRevoke, "template-revoke"),
    route("grants/", templates.GrantList, "grants"),
    route("grants/<uuid:id>/", templates.GrantItem, "grant"),
    route("grants/<uuid:id>/impact/", templates.GrantImpact, "grant-impact"),
    route("grants/<uuid:id>/revoke/", templates.GrantRevoke, "grant-revoke"),
    route("tokens/", templates.TokenList, "tokens"),
    route("hosts/<uuid:id>/drain/", draining.HostDrain, "host-drain"),
    route("hosts/<uuid:id>/undrain/", draining.HostUndrain, "host-undrain"),
    route("residues/", residue.ResidueList, "residues"),
    route("residues/<uuid:id>/fix/", residue.ResidueFix, "residue-fix"),
    route("residues/<uuid:id>/check/", residue.ResidueCheck, "residue-check"),
    route("vms/", machines.VMList, "vms"),
    route("vms/<uuid:id>/", machines.VMItem, "vm"),
    route("vms/<uuid:id>/placement/", machines.VMPlacement, "vm-placement"),
    route("vms/<uuid:id>/start/", machines.VMStart, "vm-start"),
    route("vms/<uuid:id>/stop/", machines.VMStop, "vm-stop"),
    route("vms/<uuid:id>/suspend/", machines.VMSuspend, "vm-suspend"),
    route("vms/<uuid:id>/resume/", machines.VMResume, "vm-resume"),
    route("vms/<uuid:id>/pause/", machines.VMPause, "vm-pause"),
    route("vms/<uuid:id>/restart/", machines.VMRestart, "vm-restart"),
    route("vms/<uuid:id>/reset/", machines.VMReset, "vm-reset"),
    route("vms/<uuid:id>/resize/", machines.VMResize, "vm-resize"),
    route("vms/<uuid:id>/rename/", machines.VMRename, "vm-rename"),
    route("vms/<uuid:id>/clone/", machines.VMClone, "vm-clone"),
    route("vms/<uuid:id>/upload/", machines.VMUpload, "vm-upload"),
    route("vms/<uuid:id>/snapshots/", snapshots.SnapshotList, "vm-snapshots"),
    route("vms/<uuid:id>/snapshots/refresh/", snapshots.SnapshotsRefresh, "vm-snapshots-refresh"),
    route("vms/<uuid:id>/snapshots/<uuid:snapshot>/", snapshots.SnapshotItem, "vm-snapshot"),
    route(
        "vms/<uuid:id>/snapshots/<uuid:snapshot>/revert/",
        snapshots.SnapshotRevert,
        "vm-snapshot-revert",
    ),
    route("vms/<uuid:id>/execute/", machines.VMExecute, "vm-execute"),
    route("vms/<uuid:id>/extend/", machines.VMExtend, "vm-extend"),
    route("vms/<uuid:id>/heartbeat/", machines.VMHeartbeat, "vm-heartbeat"),
    route("vms/<uuid:id>/hold/", machines.VMHold, "vm-hold"),
    route("vms/<uuid:id>/release/", machines.VMRelease, "vm-release"),
]
