"""Hosts: listed, added, changed, removed, looked into."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.http import HttpResponse
from django.urls import reverse

from catalog import caching
from compat.catalog.shown import cached_out
from compat.config import resources
from compat.hosts import shown
from compat.machines import finding
from compat.machines.shown import foreign_record
from compat.wire.answers import answer, compact, empty, rfc3339
from compat.wire.endpoints import Endpoint
from hosts import enrolment, enrolment_tokens, holds, looking, registering, removal, totals
from hosts.models import Host, HostHold, HostVM
from jobs.models import Job
from orchestrator.refusals import Conflict, Invalid, NotFound
from orchestrator.web import waiting

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest

    from compat.wire.bodies import Body

HELD_SECONDS = 180
_BY_TOOL = "Disabled through the Parallels-compatible API."


def connection_of(body: Body) -> dict[str, str]:
    """Return the credentials in a request. Raises `Invalid`."""
    given = body.inner("authentication")
    found = {
        "username": given.text("username"),
        "password": given.secret("password"),
        "api_key": given.secret("api_key"),
    }
    return {name: value for name, value in found.items() if value}


def refuse_rules(body: Body) -> None:
    """Refuse access rules that are not kept here: ignored, they would let in whom they keep out."""
    if body.texts("required_claims") or body.texts("required_roles"):
        raise Invalid(
            "Hosts have no required roles or claims here. Who may use what is said by grants of "
            "templates; leave both lists empty."
        )


class HostList(Endpoint):
    """GET; POST adds a host, also by a host itself with its enrolment token."""

    @property
    def token(self) -> str:
        return self.request.headers.get("X-Enrollment-Token", "")

    def authenticate(self) -> None:
        """Find out who asks; an enrolment token is enough to enrol, and for nothing else."""
        if self.request.method != "POST" or not self.token:
            super().authenticate()

    def get(self, request: HttpRequest) -> HttpResponse:
        rows = Host.objects.visible_to(self.actor).for_page().defer("password", "api_key")
        return answer(self.filtered([shown.host_record(host) for host in rows.order_by("pk")]))

    def post(self, request: HttpRequest) -> HttpResponse:
        url = self.body.text("host", needed=True)
        address = urlsplit(url if "://" in url else f"http://{url}")
        name = self.body.text("description") or address.netloc
        refuse_rules(self.body)
        if not self.body.has("authentication"):
            raise Invalid("Invalid request body: authentication cannot be empty")
        wanted: dict[str, Any] = {
            "name": name,
            "url": url,
            "tags": self.body.texts("tags"),
            **connection_of(self.body),
        }
        if self.token:
            host = enrolment_tokens.enrol(
                self.token,
                address=self.actor.address,
                request_id=self.actor.request_id,
                **wanted,
            )
        else:
            host = enrolment.enrol(self.actor, **wanted)
        return answer(shown.host_record(Host.objects.for_page().get(pk=host.pk)), 201)


class HostItem(Endpoint):
    """GET; PUT changes name and credentials; DELETE, with `?force=true` although it has VMs."""

    def get(self, request: HttpRequest, host: str) -> HttpResponse:
        return answer(shown.host_record(finding.host_named(self.actor, host)))

    def put(self, request: HttpRequest, host: str) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        url = self.body.text("host")
        refuse_rules(self.body)
        # Whether it means this host is judged by what an address alone says.
        told = urlsplit(url if "://" in url else f"http://{url}").netloc.lower()
        if url and told != urlsplit(found.url).netloc:
            raise Invalid("A host keeps its address. Remove this one, and add the other.")
        enrolment.update_host(
            self.actor,
            Host.objects.get(pk=found.pk),
            name=self.body.text("description") or None,
            tags=self.body.texts("tags") if self.body.has("tags") else None,
            **connection_of(self.body),
        )
        return answer(shown.host_record(finding.host_named(self.actor, str(found.pk))), 201)

    def delete(self, request: HttpRequest, host: str) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        removal.remove(self.actor, found, forget_vms=self.body.flag("force"))
        return empty()


class HostEnable(Endpoint):
    def put(self, request: HttpRequest, host: str) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        with suppress(Conflict):  # it is enabled already
            holds.release(self.actor, found, HostHold.Kind.DISABLE)
        return answer(shown.host_record(finding.host_named(self.actor, host)))


class HostDisable(Endpoint):
    def put(self, request: HttpRequest, host: str) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        holds.hold(self.actor, found, HostHold.Kind.DISABLE, _BY_TOOL)
        return answer(shown.host_record(finding.host_named(self.actor, host)))


class HostHardware(Endpoint):
    def get(self, request: HttpRequest, host: str) -> HttpResponse:
        return answer(shown.hardware_record(finding.host_named(self.actor, host)))


class Overview(Endpoint):
    """GET: what the pool has, by architecture."""

    def get(self, request: HttpRequest) -> HttpResponse:
        rows = [
            {
                **compact({"cpu_type": one.architecture, "cpu_brand": one.cpu_brand}),
                **resources(one, "disk_size"),
            }
            for one in totals.by_architecture(self.actor)
        ]
        return answer(rows, 202)


class HostOverview(Endpoint):
    def get(self, request: HttpRequest, host: str) -> HttpResponse:
        return answer(shown.hardware_record(finding.host_named(self.actor, host)), 202)


class EnrolmentToken(Endpoint):
    """POST: a token with which the host of this name enrols itself, once."""

    def post(self, request: HttpRequest) -> HttpResponse:
        minutes = self.body.number("ttl_minutes") or enrolment_tokens.MINUTES
        made, text = enrolment_tokens.create(
            self.actor, host_name=self.body.text("host_name", needed=True), minutes=minutes
        )
        told = {"host_name": made.host_name, "expires_at": rfc3339(made.expires_at)}
        return answer({"token": text, **told}, 201)


class EnrolmentTokenCheck(Endpoint):
    """GET: whether a token is still good, for whoever has it."""

    public = ("get",)

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        found = enrolment_tokens.find_live(token)
        if found is None:
            return answer({"valid": False, "reason": enrolment_tokens.NOT_VALID})
        told = {"host_name": found.host_name, "expires_at": rfc3339(found.expires_at)}
        return answer({"valid": True, **told})


class HostCache(Endpoint):
    """GET what a host has cached, as it said last; DELETE has it deleted, by a job."""

    def get(self, request: HttpRequest, host: str) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        self.actor.require("images.view")
        return answer(cached_out(found.cached_images.order_by("catalog_id", "version")))

    def delete(
        self, request: HttpRequest, host: str, catalog: str = "", version: str = ""
    ) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        caching.delete(
            self.actor, found, catalog_id=catalog, version=version, everything=not catalog
        )
        return empty()


class CachedImage(HostCache):
    http_method_names = ["delete"]


class HostLogs(Endpoint):
    """GET: the end of a host's log, as text, without what looks like a secret."""

    def get(self, request: HttpRequest, host: str) -> HttpResponse:
        self.actor.require("hosts.logs")
        found = finding.host_named(self.actor, host)
        lines = looking.logs(self.actor, found, looking.MAXIMUM_LINES)
        text = "".join(f"{line}\n" for line in lines)
        return HttpResponse(text, content_type="text/plain; charset=utf-8")


class Register(Endpoint):
    """POST: have a host list a VM that lies on its disk. It is foreign then."""

    def post(self, request: HttpRequest, host: str) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        job = registering.register(
            self.actor,
            found,
            path=self.body.text("path", needed=True),
            name=self.body.text("machine_name"),
            new_id=self.body.flag("regenerate_source_uuid"),
        )
        return _held(job, "register")


class Unregister(Endpoint):
    """POST: have a host list a foreign, stopped VM no longer."""

    def post(self, request: HttpRequest, host: str, id: str) -> HttpResponse:
        found = finding.host_named(self.actor, host)
        listed = HostVM.objects.filter(host=found, host_vm_id=id).first()
        listed = listed or HostVM.objects.filter(host=found, name__iexact=id).first()
        vm_id = listed.host_vm_id if listed else id
        return _held(registering.unregister(self.actor, found, host_vm_id=vm_id), "unregister")


def _held(job: Job, verb: str) -> HttpResponse:
    response = answer({"success": True}, 202)
    path = reverse("compat:host-ended", args=[verb, job.pk])
    waiting.hold(response, job.pk, path, 200, seconds=HELD_SECONDS)
    return response


class HostEnded(Endpoint):
    """What a synchronous call on a host answers once its job has ended. For the front."""

    def get(self, request: HttpRequest, verb: str, job: UUID) -> HttpResponse:
        found = Job.objects.visible_to(self.actor).filter(pk=job).first()
        if found is None or not found.subject.startswith("host:"):
            raise NotFound("There is no such job.")
        if found.state != Job.State.DONE:
            raise Invalid(found.error or found.message or "It did not end.")
        host = finding.host_named(self.actor, found.subject_id)
        if verb == "unregister":
            return answer({"success": True})
        listed = HostVM.objects.filter(host=host, host_vm_id=found.result.get("host_vm_id"))
        vm = listed.select_related("host__status").first()
        if vm is None:
            raise NotFound("The host does not list it any more.")
        return answer(foreign_record(self.actor, vm))
