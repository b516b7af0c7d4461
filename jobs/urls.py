from __future__ import annotations

from django.urls import path

from jobs import views

app_name = "jobs"
urlpatterns = [
    path("jobs/", views.job_list, name="list"),
    path("jobs/<uuid:id>/", views.job_page, name="job"),
    path("jobs/batches/new/", views.new_batch, name="new-batch"),
    path("jobs/<uuid:id>/retry/", views.retry, name="retry"),
    path("jobs/<uuid:id>/cancel/", views.cancel, name="cancel"),
]
