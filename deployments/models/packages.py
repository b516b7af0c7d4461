"""Applications, their versions (packages), and what a version consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower

from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from accounts.actors import Actor


class ApplicationQuerySet(models.QuerySet["Application"]):
    def visible_to(self, actor: Actor) -> ApplicationQuerySet:
        return self if actor.can("deployments.view") else self.none()


class Application(BaseModel):
    """A named holder of versions."""

    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)

    objects = ApplicationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="application_name_unique",
                violation_error_message="An application of this name exists.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def subject(self) -> str:
        return f"application:{self.pk}"


class PackageQuerySet(models.QuerySet["Package"]):
    def visible_to(self, actor: Actor) -> PackageQuerySet:
        return self if actor.can("deployments.view") else self.none()

    def whole(self) -> PackageQuerySet:
        """Return packages with what they consist of."""
        return self.select_related("application", "created_by").prefetch_related(
            "deployables__artifact", "parts__member__application"
        )


class Package(BaseModel):
    """One version of one application. Never changed once it is there: another version is made.

    A composite has `members`, in order, and no deployables of its own.
    """

    application = models.ForeignKey(Application, on_delete=models.PROTECT, related_name="packages")
    version = models.CharField(max_length=60)
    description = models.TextField(blank=True)
    orchestrators = models.JSONField(default=list)  # names, the first is outermost
    dependencies = models.JSONField(default=dict)  # name of an application → range of versions
    policy = models.JSONField(default=dict)  # gates, failures, approvals: `deployments.policies`
    members = models.ManyToManyField("self", through="PackageMember", symmetrical=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )

    objects = PackageQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["application", "version"],
                name="package_version_unique",
                violation_error_message="This version exists. Give the package another one.",
            )
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def application_name(self) -> str:
        return self.application.name

    @property
    def title(self) -> str:
        return f"{self.application.name} {self.version}"

    @property
    def subject(self) -> str:
        return f"package:{self.pk}"


class PackageMember(models.Model):
    """A package within a composite, at its place."""

    composite = models.ForeignKey(Package, on_delete=models.CASCADE, related_name="parts")
    member = models.ForeignKey(Package, on_delete=models.PROTECT, related_name="part_of")
    position = models.PositiveIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["composite", "position"], name="member_position_unique")
        ]

    def __str__(self) -> str:
        return f"{self.composite_id}/{self.position}"


class Artifact(BaseModel):
    """A file, kept once under its SHA-256 (`deployments.artifacts`)."""

    sha256 = models.CharField(max_length=64, unique=True)
    size = models.PositiveBigIntegerField()  # bytes

    def __str__(self) -> str:
        return self.sha256


class Deployable(BaseModel):
    """What a package wants on containers. `properties` are those of its type, checked."""

    package = models.ForeignKey(Package, on_delete=models.CASCADE, related_name="deployables")
    name = models.CharField(max_length=100)
    type = models.CharField(max_length=40)
    position = models.PositiveIntegerField()
    properties = models.JSONField(default=dict)
    tags = models.JSONField(default=list)
    artifact = models.ForeignKey(
        Artifact, on_delete=models.PROTECT, null=True, related_name="deployables"
    )
    file_name = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["package", "name"], name="deployable_name_unique")
        ]

    def __str__(self) -> str:
        return self.name
