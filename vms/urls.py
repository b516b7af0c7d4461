from __future__ import annotations

from django.urls import path

from vms.views import machines, templates

app_name = "vms"
urlpatterns = [
    path("templates/", templates.template_list, name="templates"),
    path("templates/new/", templates.new, name="new-template"),
    path("templates/<uuid:id>/", templates.detail, name="template"),
    path("templates/<uuid:id>/edit/", templates.edit, name="edit-template"),
    path("templates/<uuid:id>/revoke/", templates.revoke, name="revoke-template"),
    path("templates/<uuid:id>/grant/", templates.grant, name="grant"),
    path("grants/<uuid:id>/revoke/", templates.revoke_grant, name="revoke-grant"),
    path("vms/", machines.vm_list, name="list"),
    path("vms/new/", machines.new, name="new"),
    path("vms/<uuid:id>/", machines.detail, name="detail"),
    path("vms/<uuid:id>/start/", machines.start, name="start"),
    path("vms/<uuid:id>/stop/", machines.stop, name="stop"),
    path("vms/<uuid:id>/suspend/", machines.suspend, name="suspend"),
    path("vms/<uuid:id>/delete/", machines.delete, name="delete"),
    path("vms/<uuid:id>/extend/", machines.extend, name="extend"),
    path("vms/<uuid:id>/execute/", machines.execute, name="execute"),
    path("vms/<uuid:id>/placement/", machines.placement, name="placement"),
]
