from __future__ import annotations

from django.urls import path

from hosts import enrolment_token_views, views

app_name = "hosts"
urlpatterns = [
    path("hosts/", views.host_list, name="list"),
    path("hosts/new/", views.new, name="new"),
    path("hosts/enrolment-tokens/", enrolment_token_views.token_list, name="enrolment-tokens"),
    path(
        "hosts/enrolment-tokens/new/", enrolment_token_views.new_token, name="new-enrolment-token"
    ),
    path(
        "hosts/enrolment-tokens/<uuid:id>/revoke/",
        enrolment_token_views.revoke_token,
        name="revoke-enrolment-token",
    ),
    path("hosts/<uuid:id>/", views.detail, name="detail"),
    path("hosts/<uuid:id>/edit/", views.edit, name="edit"),
    path("hosts/<uuid:id>/connection/", views.connection, name="connection"),
    path("hosts/<uuid:id>/hold/<slug:kind>/", views.hold, name="hold"),
    path("hosts/<uuid:id>/maintain/", views.maintain, name="maintain"),
    path("hosts/<uuid:id>/holds/<uuid:hold>/end/", views.end_hold, name="end-hold"),
    path("hosts/<uuid:id>/inventory/", views.look, name="look"),
    path("hosts/<uuid:id>/logs/", views.logs, name="logs"),
    path("hosts/<uuid:id>/reverse-proxy/", views.reverse_proxy, name="reverse-proxy"),
    path("hosts/<uuid:id>/register/", views.register, name="register"),
    path("hosts/<uuid:id>/unregister/", views.unregister, name="unregister"),
    path("hosts/<uuid:id>/remove/", views.remove, name="remove"),
]
