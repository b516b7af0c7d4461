"""What relies on a host's cache: VMs that are made from it, or may be in a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import CharField, Exists, ExpressionWrapper, F, OuterRef, Q

from catalog.models import HostImage, Image, cached
from vms.models import Placement, VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from hosts.models import Host


def on_cache(host: Host, images: list[Image] | None) -> str:
    """Return which VM relies on the host's copies of `images` (None: of any), or nothing.

    That is one that is being made of them there, and one that waits for a host and may be placed
    there because the image need not be downloaded.
    """
    making = Placement.objects.open().filter(
        Q(vm__state=State.CREATING, current=True) | Q(host_vm_id=""), host=host, vm__clone_of=""
    )
    making = making.exclude(image=None) if images is None else making.filter(image__in=images)
    if found := making.select_related("vm").first():
        return f"{found.vm.name} is being made of it on {host.name}."
    if images is None:
        copies = HostImage.objects.filter(host=host).values_list("catalog_id", flat=True)
        wanted = set(copies)
        images = [image for image in Image.objects.all() if image.catalog_id.upper() in wanted]
    there = [
        image
        for image in images
        # None is made of one that was revoked or tainted: its copy can go.
        if not (image.revoked_at or image.tainted_at)
        and HostImage.objects.filter(cached(image), host=host).exists()
    ]
    waiting = VirtualMachine.objects.pending().filter(
        Q(wanted_host=None) | Q(wanted_host=host), clone_of="", template__images__in=there
    )
    if vm := waiting.first():
        return f"{vm.name} waits for a host, and may be made of it on {host.name}."
    return ""


def unneeded(copies: QuerySet[HostImage]) -> QuerySet[HostImage]:
    """Return those of `copies` that no VM relies on, as `on_cache` has it, in one query."""
    kept_as = ExpressionWrapper(OuterRef("architecture"), output_field=CharField())
    making = (
        Placement.objects.open()
        .annotate(kept_as=kept_as)
        .filter(
            Q(vm__state=State.CREATING, current=True) | Q(host_vm_id=""),
            Q(kept_as="") | Q(kept_as=F("image__architecture")),
            host=OuterRef("host"),
            vm__clone_of="",
            image__catalog_id__iexact=OuterRef("catalog_id"),
            image__version=OuterRef("version"),
        )
    )
    waiting = (
        VirtualMachine.objects.pending()
        .annotate(kept_as=kept_as)
        .filter(
            Q(wanted_host=None) | Q(wanted_host=OuterRef("host")),
            Q(kept_as="") | Q(kept_as=F("template__images__architecture")),
            clone_of="",
            template__images__catalog_id__iexact=OuterRef("catalog_id"),
            template__images__version=OuterRef("version"),
            template__images__revoked_at=None,
            template__images__tainted_at=None,
        )
    )
    return copies.exclude(Exists(making)).exclude(Exists(waiting))
