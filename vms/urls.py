from __future__ import annotations

from django.urls import path

from vms.views import draining, machines, residue, templates, verbs

app_name = "vms"
urlpatterns = [
    path("templates/", templates.template_list, name="templates"),
    path("templates/new/", templates.new, name="new-template"),
    path("templates/<uuid:id>/", templates.detail, name="template"),
    path("templates/<uuid:id>/edit/", templates.edit, name="edit-template"),
    path("templates/<uuid:id>/revoke/", templates.revoke, name="revoke-template"),
    path("templates/<uuid:id>/grant/", templates.grant, name="grant"),
    path("grants/<uuid:id>/revoke/", templates.revoke_grant, name="revoke-grant"),
    path("hosts/<uuid:id>/drain/", draining.drain, name="drain"),
    path("residues/", residue.residue_list, name="residues"),
    path("residues/<uuid:id>/fix/", residue.fix, name="fix-residue"),
    path("residues/<uuid:id>/check/", residue.check, name="check-residue"),
    path("vms/", machines.vm_list, name="list"),
    path("vms/new/", machines.new, name="new"),
    path("vms/<uuid:id>/", machines.detail, name="detail"),
    path("vms/<uuid:id>/start/", machines.start, name="start"),
    path("vms/<uuid:id>/stop/", machines.stop, name="stop"),
    path("vms/<uuid:id>/suspend/", machines.suspend, name="suspend"),
    path("vms/<uuid:id>/hold/", verbs.hold, name="hold"),
    path("vms/<uuid:id>/release/", verbs.release, name="release"),
    path("vms/<uuid:id>/resume/", verbs.resume, name="resume"),
    path("vms/<uuid:id>/pause/", verbs.pause, name="pause"),
    path("vms/<uuid:id>/restart/", verbs.restart, name="restart"),
    path("vms/<uuid:id>/reset/", verbs.reset, name="reset"),
    path("vms/<uuid:id>/resize/", verbs.resize, name="resize"),
    path("vms/<uuid:id>/rename/", verbs.rename, name="rename"),
    path("vms/<uuid:id>/clone/", verbs.clone, name="clone"),
    path("vms/<uuid:id>/upload/", verbs.upload, name="upload"),
    path("vms/<uuid:id>/snapshots/new/", verbs.take_snapshot, name="take-snapshot"),
    path("vms/<uuid:id>/snapshots/look/", verbs.look_for_snapshots, name="look-for-snapshots"),
    path("vms/<uuid:id>/snapshots/delete/", verbs.delete_snapshots, name="delete-snapshots"),
    path(
        "vms/<uuid:id>/snapshots/<uuid:snapshot>/revert/",
        verbs.revert_snapshot,
        name="revert-snapshot",
    ),
    path(
        "vms/<uuid:id>/snapshots/<uuid:snapshot>/delete/",
        verbs.delete_snapshot,
        name="delete-snapshot",
    ),
    path("vms/<uuid:id>/delete/", machines.delete, name="delete"),
    path("vms/<uuid:id>/extend/", machines.extend, name="extend"),
    path("vms/<uuid:id>/execute/", machines.execute, name="execute"),
    path("vms/<uuid:id>/placement/", machines.placement, name="placement"),
]
