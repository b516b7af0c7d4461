"""The catalog: manifests read, described, tainted, revoked, deleted.

The same endpoints serve a “catalog manager”, another catalog that this one reads from: its list is
asked there, all else is about the images that this catalog has from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q

from catalog import handing, images, importing
from catalog.manifests import BadManifest, from_values
from catalog.models import CatalogSource, Image
from catalog.remotes import browse
from compat.catalog import shown
from compat.catalog.sources import find_manager, storage_of_body
from compat.wire.answers import answer, empty
from compat.wire.endpoints import Endpoint
from compat.wire.errors import NotOffered
from compat.wire.words import architecture_of
from orchestrator.db.locks import go_first
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound
from vms.models import Template
from vms.openness import open_images

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.http import HttpRequest, HttpResponse

    from catalog.models import ImageQuerySet

REASON = "By the compatible API."
READ_ALONE = (
    "Another catalog is read from here, never written to. Push into a storage of this catalog."
)


class CatalogEndpoint(Endpoint):
    """An endpoint of the catalog, or with `manager` in its path of another one."""

    def manager(self) -> CatalogSource | None:
        """Return the other catalog that the path names. Raises `NotFound`."""
        reference = self.kwargs.get("manager")
        return find_manager(self.actor, reference) if reference else None

    def rows(self) -> ImageQuerySet:
        """Return the images that the caller sees: by right, or as they may make VMs of them."""
        rows = Image.objects.present().filter(
            Q(pk__in=Image.objects.visible_to(self.actor).values("pk"))
            | Q(templates__in=Template.objects.visible_to(self.actor))
            | Q(pk__in=open_images(self.actor).values("pk"))
        )
        if source := self.manager():
            rows = rows.filter(source=source)
        return rows.select_related("source").prefetch_related("labels").distinct()

    def found(self) -> list[Image]:
        """Return the images that the path names. Raises `NotFound` when there is none."""
        named = self.named()
        if not named:
            raise NotFound("Catalog manifest not found")
        return named

    def named(self) -> list[Image]:
        """Return the images that the path names, perhaps none, the newest first."""
        return list(
            self.rows().named(
                self.kwargs.get("catalog", ""),
                self.kwargs.get("version", ""),
                architecture_of(self.kwargs.get("architecture", "")),
            )
        )

    def image(self) -> Image:
        """Return the one image of a path that names an architecture. Raises `NotFound`."""
        return self.found()[0]

    def show(self, image: Image) -> HttpResponse:
        """Answer with an image as it is now."""
        fresh = Image.objects.select_related("source").prefetch_related("labels")
        return answer(shown.manifest_out(self.actor, fresh.get(pk=image.pk)))


class Catalog(CatalogEndpoint):
    def get(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        if source := self.manager():
            offered = browse(self.actor, source)
            return answer(shown.grouped(self.filtered(map(shown.offered_out, offered))))
        rows = self.rows().order_by("catalog_id", "-pk")
        manifests = self.filtered(shown.manifest_out(self.actor, image) for image in rows)
        return answer(shown.grouped(manifests))

    def post(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        """Take a record of an image whose pack is in one of the catalog's storages."""
        self.actor.require("images.manage")
        if self.manager():
            raise NotOffered(READ_ALONE)
        source = storage_of_body(self.actor, self.body)
        try:
            manifest = from_values(self.body.plain())
        except BadManifest as error:
            raise Invalid(f"Invalid request body: {error}") from None
        _done, image = importing.take_in(self.actor, source, manifest)
        return self.show(image)


class Named(CatalogEndpoint):
    """Images of an id, or of an id and version."""

    def get(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        if source := self.manager():
            wanted = {"catalog_id": kwargs["catalog"], "version": kwargs.get("version", "")}
            return answer([shown.offered_out(one) for one in browse(self.actor, source, **wanted)])
        return answer([shown.manifest_out(self.actor, image) for image in self.named()])

    def delete(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        """Delete from the catalog and, unless `clean_remote=false`, from storage."""
        self.actor.require("images.manage")
        clean = request.GET.get("clean_remote", "true").lower() != "false"
        with transaction.atomic():
            for image in sorted(self.found(), key=lambda one: one.pk):
                images.remove(self.actor, image, objects=clean and image.source.is_storage)
        return empty()


class One(Named):
    def get(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        source = self.manager()
        if source is None:
            return answer(shown.manifest_out(self.actor, self.image()))
        wanted = {"catalog_id": kwargs["catalog"], "version": kwargs["version"]}
        asked = architecture_of(kwargs["architecture"])
        for manifest in browse(self.actor, source, **wanted):
            if manifest.architecture == asked:
                return answer(shown.offered_out(manifest))
        raise NotFound("Catalog manifest not found")


class Download(CatalogEndpoint):
    """Where a pack is: for a host that shows its ticket, once. Everybody else sees a manifest."""

    public = ("get",)

    def get(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        ticket = request.headers.get("X-Api-Key", "")
        if handing.is_ticket(ticket) and "manager" not in kwargs:
            values = handing.redeem(
                ticket,
                catalog_id=kwargs["catalog"],
                version=kwargs["version"],
                architecture=architecture_of(kwargs["architecture"]),
            )
            return answer(values)
        self.authenticate()
        image = self.image()
        if image.revoked_at:
            raise Forbidden("Manifest is revoked", code="image_revoked")
        if image.tainted_at:
            raise Conflict("Manifest is tainted", code="tainted")
        return answer(shown.manifest_out(self.actor, image))


class Taint(CatalogEndpoint):
    def patch(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        self.actor.require("images.manage")
        image = self.image()
        if image.revoked_at:
            raise Forbidden("Manifest is revoked", code="image_revoked")
        if image.tainted_at:
            raise Conflict("Manifest is tainted already", code="tainted")
        images.set_taint(self.actor, image, True, reason=reason_of(self))
        return self.show(image)


class Untaint(CatalogEndpoint):
    def patch(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        self.actor.require("images.manage")
        image = self.image()
        images.set_taint(self.actor, image, False)
        return self.show(image)


class Revoke(CatalogEndpoint):
    def patch(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        self.actor.require("images.manage")
        image = self.image()
        if image.revoked_at:
            raise Forbidden("Manifest is revoked", code="image_revoked")
        images.revoke(self.actor, image, reason=reason_of(self))
        return self.show(image)


def reason_of(endpoint: CatalogEndpoint) -> str:
    """Return the reason that a body gives; clients of the original send none, or junk."""
    try:
        return endpoint.body.text("reason") or REASON
    except Invalid:
        return REASON


class Labels(CatalogEndpoint):
    """PATCH adds labels of one kind to an image, DELETE takes them away. Both have a body."""

    kind = ""  # as in the body and in `catalog.images.change`

    def patch(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        return self._change(lambda has, given: [*has, *given])

    def delete(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        return self._change(
            lambda has, given: [
                one for one in has if one.casefold() not in {name.casefold() for name in given}
            ]
        )

    def _change(self, change: Callable[[list[str], list[str]], Sequence[str]]) -> HttpResponse:
        self.actor.require("images.manage")
        given = self.body.texts(self.kind)
        if not given:
            raise Invalid.field(self.kind, f"Invalid request body: {self.kind} cannot be empty")
        image = self.image()
        with transaction.atomic():
            go_first()  # roles and claims may close the image to some
            # Read and written as one: labels that two add at once are both there.
            self.actor.take()
            locked = Image.objects.select_for_update().get(pk=image.pk)
            wanted = change(getattr(locked, self.kind), given)
            images.change(self.actor, image, **{self.kind: wanted})
        return self.show(image)


class Metadata(CatalogEndpoint):
    def put(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        self.actor.require("images.manage")
        changes: dict[str, Any] = {}
        if self.body.has("description"):
            changes["description"] = self.body.text("description")
        for name in ("required_roles", "required_claims", "tags"):
            if self.body.has(name):
                changes[name] = self.body.texts(name)
        if not changes:
            raise Invalid("Invalid request body: there is nothing to change")
        image = self.image()
        images.change(self.actor, image, **changes)
        return self.show(image)


class Connection(CatalogEndpoint):
    def patch(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        raise NotOffered(
            "An image has no connection of its own here: it uses that of its source. Change the "
            "source in the console."
        )
