"""Creating machines: a catalog manifest becomes a request for a VM of a template made from it.

Of an image that nobody made a template of its own one, for those to whom the image is open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from catalog.models import Image
from compat.jobs import shown_job
from compat.machines import finding
from compat.machines.holding import held
from compat.wire.answers import answer
from compat.wire.endpoints import Endpoint
from compat.wire.errors import NotOffered
from compat.wire.words import architecture_of
from jobs import queueing
from orchestrator.refusals import Invalid, NotFound
from vms import requests
from vms.models import Grant, Template
from vms.openness import open_images
from vms.own_templates import own_template

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor
    from compat.wire.bodies import Body
    from vms.models import VirtualMachine

LATEST = "latest"
_NOT_OFFERED = (
    "Machines are made from images of the catalog here, not with Packer or Vagrant: send a "
    "catalog_manifest."
)


def request_machine(
    actor: Actor, body: Body, *, host: str = "", wait_seconds: int | None = None
) -> VirtualMachine:
    """Ask for the machine that a CreateVirtualMachineRequest describes.

    Connections and paths in it are not used: images come from the catalog here, by its own
    credentials. Raises as `vms.requests.request_vm`.
    """
    name = body.text("name", needed=True)
    if body.has("packer_template") or body.has("vagrant_box"):
        raise NotOffered(_NOT_OFFERED)
    manifest = body.inner("catalog_manifest")
    if not manifest:
        raise Invalid("Invalid request body: catalog_manifest cannot be empty")
    architecture = architecture_of(body.text("architecture") or manifest.text("architecture"))
    template = template_of(
        actor,
        manifest.text("catalog_id", needed=True),
        manifest.text("version") or LATEST,
        architecture,
    )
    specs = manifest.inner("specs")
    return requests.request_vm(
        actor,
        template=template,
        name=name,
        cpus=specs.number("cpu"),
        memory_mib=specs.number("memory"),
        architecture=architecture,
        host=finding.host_named(actor, host) if host else None,
        host_tags=body.texts("selection_tags"),
        start=body.flag("start_on_create", "startOnCreate"),
        maximum_wait_seconds=wait_seconds,
    )


def template_of(actor: Actor, catalog_id: str, version: str, architecture: str) -> Template:
    """Return the template by which the actor gets this image: one that they may use, if there is.

    `latest` is the newest with that tag among the images that they may use, or else the newest of
    them. An image that is open to them has its own template. A template may be named instead of an
    image. Raises `NotFound`.
    """
    images = Image.objects.named(catalog_id, architecture=architecture)
    tagged: set[UUID] = set()
    if version.lower() == LATEST:
        newest = Image.objects.named(catalog_id, LATEST, architecture)
        tagged = set(newest.values_list("pk", flat=True))
    else:
        images = images.filter(version__iexact=version)
    known = set(images.values_list("pk", flat=True))
    usable = set(images.usable().values_list("pk", flat=True))
    grants = Grant.objects.live().for_user(actor.user_id)
    granted = set(grants.values_list("template_id", flat=True))
    templates = Template.objects.visible_to(actor).filter(of_image=None)
    found: list[tuple[tuple[int, ...], Template | Image]] = []
    for template in templates.filter(images__in=known).distinct().prefetch_related("images"):
        named = template.name.casefold() == catalog_id.casefold()
        for image in template.images.all():
            if image.pk not in known:
                continue
            works = image.pk in usable and template.revoked_at is None
            order = (works, template.pk in granted, image.pk in tagged, image.pk.int, named)
            found.append(((*order, -template.pk.int), template))
    for image in open_images(actor).filter(pk__in=known):
        order = (image.pk in usable, True, image.pk in tagged, image.pk.int, False)
        found.append(((*order, 0), image))
    if found:
        best = max(found, key=lambda pair: pair[0])[1]
        return own_template(actor, best) if isinstance(best, Image) else best
    if by_name := templates.filter(name__iexact=catalog_id).first():
        return by_name
    raise NotFound(
        f"There is no template that you may use for the image {catalog_id} {version}"
        f"{f' ({architecture})' if architecture else ''}, and it is not open to your roles or "
        "claims. Ask for a grant."
    )


class Creates(Endpoint):
    """`POST /machines`: answered when the machine is there, within `COMPAT_CREATE_SECONDS`."""

    def post(self, request: HttpRequest, host: str = "") -> HttpResponse:
        longest = int(min(settings.COMPAT_QUEUE_SECONDS, settings.QUEUE_MAXIMUM_WAIT_SECONDS))
        vm = request_machine(self.actor, self.body, host=host, wait_seconds=longest)
        return created(self.actor, vm, "create", settings.COMPAT_CREATE_SECONDS)


def created(actor: Actor, vm: VirtualMachine, verb: str, seconds: float) -> HttpResponse:
    """Answer when `vm`, which was asked for just now, is there."""
    job = vm.create_job
    assert job is not None
    return held(actor, job, verb, vm, seconds=seconds)


class CreateAsync(Endpoint):
    """`POST /machines/async`: answered at once, with the job.

    A server that sends its own id of the job (`X-ORCHESTRATOR-JOB-ID`) may ask by that.
    """

    def post(self, request: HttpRequest, host: str = "") -> HttpResponse:
        external = request.headers.get("X-ORCHESTRATOR-JOB-ID", "").strip()
        with transaction.atomic():
            vm = request_machine(self.actor, self.body, host=host)
            job = vm.create_job
            assert job is not None
            if external:
                queueing.note_external_id(job, external)
        return answer(shown_job(self.actor, job), 202)
