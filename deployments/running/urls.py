from __future__ import annotations

from django.urls import path

from deployments.running import taking_back, views

app_name = "tasks"
urlpatterns = [
    path("tasks/", views.task_list, name="list"),
    path("tasks/<uuid:id>/", views.task_page, name="task"),
    *(
        path(f"tasks/<uuid:id>/{verb}/", views.verb, {"verb": verb}, name=verb)
        for verb in views.VERBS
    ),
    *(
        path(f"tasks/<uuid:id>/{verb}/", views.ask, {"verb": verb}, name=verb)
        for verb in views.ASKED
    ),
    path("tasks/<uuid:id>/steps/<str:path>/log/", views.step_log, name="step-log"),
    path("tasks/<uuid:id>/rollback/", taking_back.roll_back, name="rollback"),
    path("tasks/<uuid:id>/schedule/", views.schedule, name="schedule"),
    path("tasks/<uuid:id>/assign/", views.assign, name="assign"),
    *(
        path(
            f"tasks/<uuid:id>/steps/<str:path>/{verb}/",
            views.step_verb,
            {"verb": verb},
            name=f"{verb}-step",
        )
        for verb in ("skip", "unskip", "pause", "approve")
    ),
    *(
        path(
            f"tasks/<uuid:id>/report.{form}", views.download, {"form": form}, name=f"report-{form}"
        )
        for form in ("json", "csv")
    ),
]
