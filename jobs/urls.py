from __future__ import annotations

from django.urls import path

from jobs import views

app_name = "jobs"
urlpatterns = [
    path("jobs/", views.job_list, name="list"),
    path("jobs/<uuid:id>/", views.job_page, name="job"),
    path("jobs/<uuid:id>/cancel/", views.cancel, name="cancel"),
]
