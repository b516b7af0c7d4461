from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from hosts.models import Architecture, Host
from orchestrator.db.fields import EncryptedTextField
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from accounts.actors import Actor


class CatalogSourceQuerySet(models.QuerySet["CatalogSource"]):
    def visible_to(self, actor: Actor) -> CatalogSourceQuerySet:
        return self if actor.can("images.view") else self.none()


class CatalogSource(BaseModel):
    """Where images come from. The connection is write-only: shown masked, read by the driver."""

    name = models.CharField(max_length=100)
    connection = EncryptedTextField()
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    objects = CatalogSourceQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(Lower("name"), name="source_name_unique")]

    def __str__(self) -> str:
        return self.name

    @property
    def masked(self) -> str:
        """Return what may be shown of the connection: enough to tell it from another."""
        return mask(self.connection)


def mask(connection: str) -> str:
    """Return the connection without its secrets: scheme and host, or the provider's name."""
    kind, _, rest = connection.partition("=")
    if kind == "host":
        scheme, separator, address = rest.rpartition("@")[2].partition("://")
        shown = f"{scheme}{separator}{address}".partition(";")[0]
        return f"host=****@{shown}" if "@" in rest else f"host={shown}"
    if kind == "provider":
        return f"provider={rest.partition(';')[0]};****"
    return "****"


class ImageQuerySet(models.QuerySet["Image"]):
    def live(self) -> ImageQuerySet:
        return self.filter(revoked_at=None)

    def usable(self) -> ImageQuerySet:
        """Return images that new VMs may be made from: neither revoked nor tainted."""
        return self.filter(revoked_at=None, tainted_at=None)

    def visible_to(self, actor: Actor) -> ImageQuerySet:
        return self if actor.can("images.view") else self.none()


class Image(BaseModel):
    """A catalog id, version and architecture: what a VM is made from."""

    class Type(models.TextChoices):
        PVM = "pvm"
        MACVM = "macvm"

    source = models.ForeignKey(CatalogSource, on_delete=models.PROTECT, related_name="images")
    catalog_id = models.CharField(max_length=200)
    version = models.CharField(max_length=100)
    architecture = models.CharField(max_length=10, choices=Architecture.choices)
    type = models.CharField(max_length=10, choices=Type.choices)
    pack_size_mib = models.PositiveIntegerField(null=True, blank=True)
    tainted_at = models.DateTimeField(null=True, blank=True)
    taint_reason = models.CharField(max_length=300, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoke_reason = models.CharField(max_length=300, blank=True)

    objects = ImageQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "source",
                Lower("catalog_id"),
                "version",
                "architecture",
                name="image_unique",
                violation_error_message="This image is in the catalog already.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return f"{self.catalog_id}:{self.version} ({self.architecture})"


class HostImage(models.Model):
    """What a host has cached, as it said last."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="cached_images")
    catalog_id = models.CharField(max_length=200)  # upper case, as hosts store it
    version = models.CharField(max_length=100)
    architecture = models.CharField(max_length=10, blank=True)
    size_mib = models.PositiveIntegerField(default=0)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["host", "catalog_id", "version", "architecture"], name="cached_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.catalog_id}:{self.version}"


def cached(image: Image) -> Q:
    """Return the condition on HostImage rows that are copies of `image`.

    Hosts compare catalog ids upper case and do not always name the architecture.
    """
    return Q(
        catalog_id=image.catalog_id.upper(),
        version=image.version,
        architecture__in=["", image.architecture],
    )
