"""Fake addresses: held calls, and levers that a test moves from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.sessions.models import Session
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from accounts.actors import Actor
from accounts.models import ApiToken, Role, User
from accounts.signin.sessions import sign_out_everywhere
from accounts.tokens import find_live
from events.models import Event
from events.publishing import publish
from events.sealing import seal_events
from jobs.models import Job
from orchestrator.web import health, wake
from orchestrator.web.waiting import hold, is_inner

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest


def start(request: HttpRequest) -> HttpResponse:
    job = Job.objects.create(kind="fake", subject="fake:1", step="")
    response = JsonResponse({"job": str(job.pk)}, status=202)
    response["Location"] = f"/thing/{job.pk}/"
    seconds = int(request.GET.get("seconds", "0"))
    hold(response, job.pk, f"/thing/{job.pk}/?from=wait", 201, seconds=seconds)
    return response


def jobs(request: HttpRequest) -> HttpResponse:
    ids = Job.objects.values_list("pk", flat=True)
    return JsonResponse([str(pk) for pk in ids], safe=False)


def thing(request: HttpRequest, job_id: UUID) -> HttpResponse:
    token = find_live(request.headers.get("Authorization", "").removeprefix("Bearer "))
    if token is None:
        return JsonResponse({"code": "not_authenticated"}, status=401)
    job = Job.objects.get(pk=job_id)
    seen = {name.lower(): value for name, value in request.headers.items()}
    return JsonResponse(
        {
            "state": job.state,
            "method": request.method,
            "query": request.GET.dict(),
            "headers": seen,
            "body": request.read().decode(),
            "inner": is_inner(request),
        }
    )


def end(request: HttpRequest, job_id: UUID) -> HttpResponse:
    Job.objects.filter(pk=job_id).update(state=Job.State.DONE)
    if "silently" not in request.GET:
        wake.wake(f"job:{job_id}")
    return HttpResponse("ended")


def end_all(request: HttpRequest) -> HttpResponse:
    ids = list(Job.objects.open().values_list("pk", flat=True))
    Job.objects.update(state=Job.State.DONE)
    for job_id in ids:
        wake.wake(f"job:{job_id}")
    return HttpResponse("ended")


def tell(request: HttpRequest) -> HttpResponse:
    asked = request.GET
    for number in range(int(asked.get("count", "1"))):
        publish(
            asked.get("kind", "vm.changed"),
            asked.get("subject", f"vm:{number}"),
            {"number": number},
            permission=asked.get("permission", "vms.view_all"),
            scope=asked.get("scope", ""),
            owner_id=asked.get("owner"),
        )
    while "unsealed" not in asked and seal_events():
        pass
    return HttpResponse("told")


def unsealed(request: HttpRequest) -> HttpResponse:
    return JsonResponse(Event.objects.filter(sequence=None).count(), safe=False)


def take_away(request: HttpRequest) -> HttpResponse:
    """End the access named in the query."""
    match request.GET["what"]:
        case "token":
            ApiToken.objects.filter(name=request.GET["name"]).update(revoked_at="2020-01-01T00:00Z")
        case "session":
            Session.objects.filter(pk=request.GET["name"]).delete()
        case "account":
            User.objects.filter(username=request.GET["name"]).update(is_active=False)
        case "password":
            user = User.objects.get(username=request.GET["name"])
            user.set_password("a new one altogether")
            user.save()
        case "everywhere":
            user = User.objects.get(username=request.GET["name"])
            sign_out_everywhere(Actor(user), user)
        case "assurance":
            roles = Role.objects.filter(group__user__username=request.GET["name"])
            roles.update(requires_second_factor=True)
        case "roles":
            User.objects.get(username=request.GET["name"]).groups.clear()
    return HttpResponse("gone")


def echo(request: HttpRequest) -> HttpResponse:
    response = JsonResponse(
        {"query": request.META["QUERY_STRING"], "headers": dict(request.headers.items())}
    )
    response["X-Orchestrator-Wait"] = "secret"
    return response


def size(request: HttpRequest) -> HttpResponse:
    return JsonResponse(len(request.read()), safe=False)


urlpatterns = [
    path("size/", csrf_exempt(size)),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("start/", csrf_exempt(start)),
    path("jobs/", jobs),
    path("thing/<uuid:job_id>/", thing),
    path("end/<uuid:job_id>/", csrf_exempt(end)),
    path("end-all/", csrf_exempt(end_all)),
    path("tell/", csrf_exempt(tell)),
    path("unsealed/", unsealed),
    path("take-away/", csrf_exempt(take_away)),
    path("echo/", echo),
]
