"""Images brought into the catalog, and machines made of them: import, push and pull."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.urls import reverse

from catalog import pushing, sources
from catalog.models import LATEST, Image
from compat.catalog.images import READ_ALONE, CatalogEndpoint
from compat.catalog.shown import manifest_out
from compat.catalog.sources import storage_of_body
from compat.jobs import shown_job
from compat.machines.creating import created, request_machine
from compat.wire.answers import answer
from compat.wire.bodies import Body
from compat.wire.endpoints import Endpoint
from compat.wire.errors import NotOffered
from compat.wire.words import architecture_of
from hosts.models import Host, HostVM
from jobs.models import Job
from orchestrator.api.references import lookup
from orchestrator.refusals import Invalid, NotFound
from orchestrator.web import waiting

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor
    from vms.models import VirtualMachine


def held(actor: Actor, job: Job, verb: str) -> HttpResponse:
    """Answer when the job of `verb` has ended, or after the setting with its record and 202."""
    if job.is_final:
        return _final(actor, job, verb)
    response = answer(shown_job(actor, job), 202)
    path = reverse("compat:catalog-ended", args=[verb, job.pk])
    waiting.hold(response, job.pk, path, 200, seconds=int(settings.COMPAT_CREATE_SECONDS))
    return response


class Ended(Endpoint):
    """What `held` answers once the job has ended. For the front, as the same caller."""

    def get(self, request: HttpRequest, verb: str, job: UUID) -> HttpResponse:
        found = Job.objects.visible_to(self.actor).for_page().filter(pk=job).first()
        if found is None or not found.is_final or verb not in VERBS:
            raise NotFound("There is no such job.")
        return _final(self.actor, found, verb)


def _final(actor: Actor, job: Job, verb: str) -> HttpResponse:
    if job.state != Job.State.DONE:
        raise Invalid(job.error or job.message or f"The {verb} was cancelled.")
    ids = [*job.result.get("added", []), *job.result.get("updated", [])]
    rows = Image.objects.visible_to(actor).select_related("source").prefetch_related("labels")
    image = rows.filter(pk__in=[*ids, job.result.get("image")]).first()
    if image is None:
        raise NotFound("The image was deleted meanwhile.")
    return answer(manifest_out(actor, image) if verb == "push" else {"id": str(image.pk)})


VERBS = ("import", "push")


class Import(CatalogEndpoint):
    """Takes an image into the catalog whose pack and metadata are in a storage already."""

    def put(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        self.actor.require("images.manage")
        body = self.body
        job = sources.request_import(
            self.actor,
            self.manager() or storage_of_body(self.actor, body),
            catalog_id=body.text("catalog_id", needed=True),
            version=body.text("version", needed=True),
            architecture=architecture_of(body.text("architecture", needed=True)),
        )
        return held(self.actor, job, "import")


class Push(CatalogEndpoint):
    """Has the host that has a machine pack it into a storage of the catalog."""

    def job(self) -> Job:
        """Ask for the push that a PushCatalogManifestRequest describes."""
        self.actor.require("images.manage")
        if self.manager():
            raise NotOffered(READ_ALONE)
        body, minimum = self.body, self.body.inner("minimum_requirements")
        vm, path = body.text("uuid"), body.text("local_path")
        return pushing.push(
            self.actor,
            storage_of_body(self.actor, body),
            host_of_machine(self.actor, vm=vm, path=path, host=body.text("host_id", "host")),
            vm=vm,
            local_path="" if vm else path,
            catalog_id=body.text("catalog_id", needed=True),
            version=body.text("version") or LATEST,
            description=body.text("description"),
            tags=body.texts("tags"),
            required_roles=body.texts("required_roles"),
            required_claims=body.texts("required_claims"),
            minimum_cpus=minimum.number("cpu") or 0,
            minimum_memory_mib=minimum.number("memory") or 0,
            minimum_disk_gib=-(-(minimum.number("disk") or 0) // 1024),
            compress=body.flag("compress_pack") or body.flag("compress"),
            override=body.flag("override_existing"),
        )

    def post(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        return held(self.actor, self.job(), "push")


class PushAsync(Push):
    def post(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        return answer(shown_job(self.actor, self.job()), 202)


def host_of_machine(actor: Actor, *, vm: str, path: str, host: str) -> Host:
    """Return the only host, or the one named, that lists a machine by its id there or its folder.

    Raises `Invalid`, `NotFound`.
    """
    if not vm and not path:
        raise Invalid.field("local_path", "Invalid request body: local_path cannot be empty")
    hosts = Host.objects.visible_to(actor)
    named = lookup(hosts, host) if host else None
    if host and named is None:
        raise NotFound(f"Host {host} not found")
    listed = HostVM.objects.filter(host__in=[named] if named else hosts)
    rows = listed.filter(host_vm_id=vm) if vm else listed.filter(home=path.rstrip("/"))
    found = list(hosts.filter(pk__in=rows.values("host"))[:2])
    if not found:
        raise NotFound("No host lists this machine. Look at its host again, or name it as host_id.")
    if len(found) > 1:
        raise Invalid.field("host_id", "Several hosts have such a machine. Name one as host_id.")
    return found[0]


class ImportVM(CatalogEndpoint):
    def put(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        raise NotOffered(
            "Unpacked folders in a storage are not taken in: nothing proves what is in them. Push "
            "the machine, so that its pack has a checksum."
        )


def requested(endpoint: CatalogEndpoint) -> VirtualMachine:
    """Ask for the machine that a PullCatalogManifestRequest describes. Raises as a create."""
    body, source = endpoint.body, endpoint.manager()
    if source and body.has("connection"):
        raise Invalid.field("connection", "The catalog manager has a connection of its own.")
    manifest: dict[str, Any] = {
        "catalog_id": body.text("catalog_id", needed=True),
        "version": body.text("version"),
    }
    return request_machine(
        endpoint.actor,
        Body(
            {
                "name": body.text("machine_name", needed=True),
                "architecture": body.text("architecture"),
                "start_on_create": body.flag("start_after_pull"),
                "catalog_manifest": manifest,
            }
        ),
    )


class Pull(CatalogEndpoint):
    """Makes a machine of an image, as a create does. Clients send PUT; the console once sent POST.

    Path, owner and connection are not used: the pool chooses the host, and images come from the
    catalog here by its own credentials.
    """

    def put(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        vm = requested(self)
        return created(self.actor, vm, "pull", settings.COMPAT_CREATE_SECONDS)

    post = put


class PullAsync(CatalogEndpoint):
    def put(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        job = requested(self).create_job
        assert job is not None
        return answer(shown_job(self.actor, job), 202)

    post = put
