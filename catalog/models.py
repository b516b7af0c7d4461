from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from catalog.storage import connections
from hosts.models import Architecture, Host
from orchestrator.db.fields import EncryptedTextField
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from accounts.actors import Actor


LATEST = "latest"


class CatalogSourceQuerySet(models.QuerySet["CatalogSource"]):
    def present(self) -> CatalogSourceQuerySet:
        return self.filter(removed_at=None)

    def visible_to(self, actor: Actor) -> CatalogSourceQuerySet:
        return self.present() if actor.can("images.view") else self.none()


class CatalogSource(BaseModel):
    """Where images come from: a storage, or another catalog (a “catalog manager”).

    The connection is write-only: shown masked, read by the driver.
    """

    class Kind(models.TextChoices):
        REMOTE = "remote"
        STORAGE = "storage"

    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.REMOTE)
    connection = EncryptedTextField()
    # Whether hosts get the keys of a storage, where signed addresses would do (contract 4.2).
    hands_out_keys = models.BooleanField(default=False)
    # Nothing is read from one that is switched off, and no VM made of its images.
    active = models.BooleanField(default=True)
    imported_at = models.DateTimeField(null=True, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    objects = CatalogSourceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="source_name_unique",
                condition=Q(removed_at=None),
                violation_error_message="There is a source of this name already.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def masked(self) -> str:
        """Return what may be shown of the connection: enough to tell it from another."""
        return connections.masked(self.connection)

    @property
    def is_storage(self) -> bool:
        return self.kind == self.Kind.STORAGE


class ImageQuerySet(models.QuerySet["Image"]):
    def present(self) -> ImageQuerySet:
        """Return images that were not deleted from the catalog."""
        return self.filter(removed_at=None)

    def live(self) -> ImageQuerySet:
        return self.present().filter(revoked_at=None)

    def usable(self) -> ImageQuerySet:
        """Return images that new VMs may be made from.

        That is neither revoked, tainted nor deleted, and of a source that is switched on.
        """
        return self.live().filter(tainted_at=None, source__active=True)

    def visible_to(self, actor: Actor) -> ImageQuerySet:
        """Return what the actor may see: who manages images sees all, others as they are open to.

        An image that requires roles (or claims) is open to who has any of them.
        """
        if not actor.can("images.view"):
            return self.none()
        rows = self.present()
        return rows if actor.can("images.manage") else rows.open_to(actor)

    def open_to(self, actor: Actor) -> ImageQuerySet:
        """Return images whose required roles and claims the actor meets."""
        from catalog.requirements import open_to

        return open_to(self, actor)

    def named(self, catalog_id: str, version: str = "", architecture: str = "") -> ImageQuerySet:
        """Return the images of this id (case does not matter), newest first.

        The version `latest` stands for the newest one with that tag; without one for the version
        of that name.
        """
        rows = self.filter(catalog_id__iexact=catalog_id).order_by("-pk")
        if architecture:
            rows = rows.filter(architecture=architecture)
        if version.lower() == LATEST:
            tagged = rows.filter(labels__kind=ImageLabel.Kind.TAG, labels__name__iexact=LATEST)
            return tagged if tagged.exists() else rows.filter(version__iexact=LATEST)
        return rows.filter(version=version) if version else rows


class Image(BaseModel):
    """A catalog id, version and architecture: what a VM is made from, and its manifest."""

    class Type(models.TextChoices):
        PVM = "pvm"
        MACVM = "macvm"

    source = models.ForeignKey(CatalogSource, on_delete=models.PROTECT, related_name="images")
    catalog_id = models.CharField(max_length=200)
    version = models.CharField(max_length=100)
    architecture = models.CharField(max_length=10, choices=Architecture.choices)
    type = models.CharField(max_length=10, choices=Type.choices)
    description = models.TextField(max_length=2000, blank=True)
    pack_size_mib = models.PositiveIntegerField(null=True, blank=True)
    # In storage: the folder and the names in it, the exact size, and what proves the content.
    path = models.CharField(max_length=300, blank=True)
    pack_file = models.CharField(max_length=300, blank=True)
    metadata_file = models.CharField(max_length=300, blank=True)
    pack_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    unpacked_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    compressed = models.BooleanField(default=False)
    md5 = models.CharField(max_length=32, blank=True)  # the contract's checksum
    sha256 = models.CharField(max_length=64, blank=True)
    verified_at = models.DateTimeField(null=True, blank=True)
    verify_problem = models.CharField(max_length=300, blank=True)
    # What a host must have for it; 0 = no such requirement.
    minimum_cpus = models.PositiveIntegerField(default=0)
    minimum_memory_mib = models.PositiveIntegerField(default=0)
    minimum_disk_gib = models.PositiveIntegerField(default=0)
    provenance = models.JSONField(default=dict, blank=True)  # who made it, where, of what
    downloads = models.PositiveIntegerField(default=0)
    last_downloaded_at = models.DateTimeField(null=True, blank=True)
    last_downloaded_by = models.CharField(max_length=100, blank=True)  # the host
    tainted_at = models.DateTimeField(null=True, blank=True)
    taint_reason = models.CharField(max_length=300, blank=True)
    tainted_by = models.CharField(max_length=150, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoke_reason = models.CharField(max_length=300, blank=True)
    revoked_by = models.CharField(max_length=150, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)

    objects = ImageQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "source",
                Lower("catalog_id"),
                "version",
                "architecture",
                name="image_unique",
                condition=Q(removed_at=None),
                violation_error_message="This image is in the catalog already.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return f"{self.catalog_id}:{self.version} ({self.architecture})"

    def _labels(self, kind: str) -> list[str]:
        return sorted(label.name for label in self.labels.all() if label.kind == kind)

    @property
    def tags(self) -> list[str]:
        """Return its tags; queries once unless `labels` is prefetched. So do the next two."""
        return self._labels(ImageLabel.Kind.TAG)

    @property
    def required_roles(self) -> list[str]:
        return self._labels(ImageLabel.Kind.ROLE)

    @property
    def required_claims(self) -> list[str]:
        return self._labels(ImageLabel.Kind.CLAIM)

    @property
    def pack_key(self) -> str:
        """Return where the pack is in its storage; empty where nobody knows."""
        return f"{self.path}/{self.pack_file}" if self.pack_file else ""

    @property
    def metadata_key(self) -> str:
        return f"{self.path}/{self.metadata_file}" if self.metadata_file else ""


class ImageLabel(models.Model):
    """A tag of an image, or a role or claim of which it requires any."""

    class Kind(models.TextChoices):
        TAG = "tag"
        ROLE = "role"
        CLAIM = "claim"

    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="labels")
    kind = models.CharField(max_length=5, choices=Kind.choices)
    name = models.CharField(max_length=100)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["image", "kind", "name"], name="image_label_once")
        ]

    def __str__(self) -> str:
        return self.name


class DownloadTicket(BaseModel):
    """The right of one host to one download of an image; kept as a digest, used once."""

    digest = models.CharField(max_length=64, unique=True)
    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="+")
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    # How fast all downloads that share `pace` may be together; then this product passes them on.
    mib_per_second = models.PositiveIntegerField(null=True, blank=True)
    pace = models.CharField(max_length=40, blank=True)

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="ticket_expiry")]

    def __str__(self) -> str:
        return f"{self.image_id} for {self.host_id}"


class PackUpload(BaseModel):
    """An upload of a pack in parts that has begun and not ended; one per place in a storage."""

    source = models.ForeignKey(CatalogSource, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=700)
    upload = models.TextField()  # the storage's id of it
    size = models.PositiveBigIntegerField()
    md5 = models.CharField(max_length=32)
    part_bytes = models.PositiveBigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "key"], name="pack_upload_once")]

    def __str__(self) -> str:
        return self.key


class HostCache(models.Model):
    """How much of its disk a host may use for its cache; what is over it is collected."""

    host = models.OneToOneField(
        Host, on_delete=models.CASCADE, primary_key=True, related_name="cache_limit"
    )
    quota_mib = models.PositiveIntegerField(null=True, blank=True)
    set_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    set_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return str(self.host_id)


class HostImage(models.Model):
    """What a host has cached, as it said last."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="cached_images")
    catalog_id = models.CharField(max_length=200)  # upper case, as hosts store it
    version = models.CharField(max_length=100)
    architecture = models.CharField(max_length=10, blank=True)
    size_mib = models.PositiveIntegerField(default=0)
    type = models.CharField(max_length=10, blank=True)
    cached_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField()
    # Set while a job deletes it: nothing new relies on it then, and no create is sent meanwhile.
    going_since = models.DateTimeField(null=True, blank=True)

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
