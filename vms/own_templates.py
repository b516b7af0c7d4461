"""The own template of an image: by it a VM is made from an image that nobody made a template of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from accounts.audit import audit
from catalog.models import Image
from orchestrator.refusals import NotFound
from vms import openness
from vms.models import Template
from vms.templates import announce

if TYPE_CHECKING:
    from accounts.actors import Actor

GIB = 1024**3
NO_IMAGE = "There is no image that is open to you by this name."


def own_template(actor: Actor, image: Image) -> Template:
    """Return the image's own template, which is made when it is first asked for.

    Its size and lease are those of the settings `IMAGE_VM_*`, and no smaller than the image needs;
    who manages templates may change them. Raises `NotFound` unless the image is open to the actor.
    """
    if not openness.open_images(actor).filter(pk=image.pk).exists():
        raise NotFound(NO_IMAGE)
    found = Template.objects.filter(of_image=image).first()
    if found:
        return found
    with transaction.atomic():
        template, made = Template.objects.get_or_create(of_image=image, defaults=_defaults(image))
        if made:
            template.images.set([image])
            data = {"image": image.name, "own": True}
            audit(actor, "template.created", f"template:{template.pk}", template.name, data=data)
            announce(template)
    return template


def _defaults(image: Image) -> dict[str, object]:
    unpacked = -(-(image.unpacked_bytes or 0) // GIB)
    name = f"{image.catalog_id[:40]}:{image.version[:20]} {image.architecture}"
    return {
        "name": f"{name} #{image.pk.hex[-12:]}",  # nobody else's
        "description": (
            "Made by itself, for VMs that are asked for by the image. It has no grants: the "
            "required roles and claims of the image say who may."
        ),
        "os": Template.OS.MACOS if image.type == Image.Type.MACVM else Template.OS.OTHER,
        "cpus": max(settings.IMAGE_VM_CPUS, image.minimum_cpus),
        "memory_mib": max(settings.IMAGE_VM_MEMORY_MIB, image.minimum_memory_mib),
        "disk_gib": max(settings.IMAGE_VM_DISK_GIB, image.minimum_disk_gib, unpacked),
        "default_lease_seconds": settings.IMAGE_VM_LEASE_SECONDS,
        "maximum_lease_seconds": max(
            settings.IMAGE_VM_LEASE_SECONDS, settings.IMAGE_VM_MAXIMUM_LEASE_SECONDS
        ),
    }
