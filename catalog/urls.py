from __future__ import annotations

from django.urls import path

from catalog.views import caches, images, sources

app_name = "catalog"
urlpatterns = [
    path("images/", images.images, name="images"),
    path("images/new/", images.new_image, name="new"),
    path("images/readiness/", images.ready, name="readiness"),
    path("images/push/", sources.push, name="push"),
    path("images/push/<uuid:id>/", sources.push_from, name="push-from"),
    path("images/sources/new/", sources.new_source, name="new-source"),
    path("images/sources/<uuid:id>/", sources.source, name="source"),
    path("images/sources/<uuid:id>/edit/", sources.edit, name="edit-source"),
    path("images/sources/<uuid:id>/import/", sources.bring_in, name="import-source"),
    path("images/sources/<uuid:id>/remove/", sources.remove, name="remove-source"),
    path("images/<uuid:id>/", images.image, name="image"),
    path("images/<uuid:id>/edit/", images.edit, name="edit"),
    path("images/<uuid:id>/verify/", images.verify, name="verify"),
    path("images/<uuid:id>/remove/", images.remove, name="remove"),
    path("images/<uuid:id>/taint/", images.taint, name="taint"),
    path("images/<uuid:id>/untaint/", images.untaint, name="untaint"),
    path("images/<uuid:id>/revoke/", images.revoke, name="revoke"),
    path("images/<uuid:id>/unrevoke/", images.unrevoke, name="unrevoke"),
    path("images/<uuid:id>/cache/", caches.in_advance, name="in-advance"),
    path("hosts/<uuid:id>/cache/pull/", caches.pull, name="pull"),
    path("hosts/<uuid:id>/cache/delete/", caches.delete_cached, name="delete-cached"),
    path("hosts/<uuid:id>/cache/quota/", caches.quota, name="cache-quota"),
    path("hosts/<uuid:id>/cache/collect/", caches.collect, name="cache-collect"),
]
