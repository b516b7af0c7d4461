from __future__ import annotations

from django.urls import path

from vms.views import adoption, draining, machines, queue, templates, verbs

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
    path("queue/", queue.queue_page, name="queue"),
    path("queue/hold/", queue.hold, name="hold-queue"),
    path("queue/release/", queue.release, name="release-queue"),
    path("quotas/new/", queue.new_quota, name="new-quota"),
    path("quotas/<uuid:id>/edit/", queue.edit_quota, name="edit-quota"),
    path("quotas/<uuid:id>/remove/", queue.remove_quota, name="remove-quota"),
    path("hosts/<uuid:id>/adopt/", adoption.adopt, name="adopt"),
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
    path("vms/<uuid:id>/clone-to-template/", verbs.clone_to_template, name="clone-to-template"),
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
    path("vms/<uuid:id>/let-go/", adoption.let_go, name="let-go"),
    path("vms/<uuid:id>/delete/", machines.delete, name="delete"),
    path("vms/<uuid:id>/extend/", machines.extend, name="extend"),
    path("vms/<uuid:id>/execute/", machines.execute, name="execute"),
    path("vms/<uuid:id>/placement/", machines.placement, name="placement"),
]
