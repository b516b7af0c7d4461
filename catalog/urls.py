from __future__ import annotations

from django.urls import path

from catalog import views

app_name = "catalog"
urlpatterns = [
    path("images/", views.images, name="images"),
    path("images/new/", views.new_image, name="new"),
    path("images/sources/new/", views.new_source, name="new-source"),
    path("images/<uuid:id>/", views.image, name="image"),
    path("images/<uuid:id>/taint/", views.taint, name="taint"),
    path("images/<uuid:id>/untaint/", views.untaint, name="untaint"),
    path("images/<uuid:id>/revoke/", views.revoke, name="revoke"),
    path("hosts/<uuid:id>/cache/pull/", views.pull, name="pull"),
    path("hosts/<uuid:id>/cache/delete/", views.delete_cached, name="delete-cached"),
]
