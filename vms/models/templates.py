"""What VMs are made from, and who may use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Lower, Now

from accounts.models import Role
from catalog.models import Image
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from uuid import UUID

    from accounts.actors import Actor


class LeaseEnd(models.TextChoices):
    DELETE = "delete"
    STOP = "stop"
    SUSPEND = "suspend"


class TemplateQuerySet(models.QuerySet["Template"]):
    def live(self) -> TemplateQuerySet:
        return self.filter(revoked_at=None)

    def visible_to(self, actor: Actor) -> TemplateQuerySet:
        """Return templates that the actor may see: all, or those ever granted to them."""
        if actor.can("templates.view_all"):
            return self
        granted = Grant.objects.for_user(actor.user_id).filter(template=OuterRef("pk"))
        return self.filter(Exists(granted))


class Template(BaseModel):
    """What a pipeline asks for: an image or a VM to clone, a size, and defaults."""

    class OS(models.TextChoices):
        MACOS = "macos", "macOS"
        LINUX = "linux", "Linux"
        WINDOWS = "windows", "Windows"
        OTHER = "other", "Other"

    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    images = models.ManyToManyField(Image, related_name="templates")
    clone_of = models.CharField(max_length=200, blank=True)  # the name of a VM on hosts
    # The image whose own template it is: open to whom the image is open to, without a grant.
    of_image = models.OneToOneField(
        Image, on_delete=models.PROTECT, null=True, blank=True, related_name="own_template"
    )
    os = models.CharField(max_length=10, choices=OS.choices, default=OS.OTHER)
    cpus = models.PositiveSmallIntegerField()
    memory_mib = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    host_tags = models.JSONField(default=list)
    start = models.BooleanField(default=True)
    default_lease_seconds = models.PositiveIntegerField()
    maximum_lease_seconds = models.PositiveIntegerField()
    lease_end = models.CharField(max_length=10, choices=LeaseEnd.choices, default=LeaseEnd.DELETE)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    revoked_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TemplateQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="template_name_unique",
                violation_error_message="A template of this name exists. Choose another name.",
            )
        ]

    def __str__(self) -> str:
        return self.name


class GrantQuerySet(models.QuerySet["Grant"]):
    def live(self) -> GrantQuerySet:
        """Return grants that hold now, by the database's clock."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None)

    def for_user(self, user_id: UUID | None) -> GrantQuerySet:
        """Return the account's direct grants and those of its roles."""
        return self.filter(Q(user=user_id) | Q(role__in=Role.objects.of(user_id).values("pk")))

    def managing(self) -> GrantQuerySet:
        return self.filter(level=Grant.Level.MANAGE)

    def visible_to(self, actor: Actor) -> GrantQuerySet:
        """Return grants that concern the actor: all, one's own, and of templates one manages."""
        if actor.can("templates.view_all"):
            return self
        managed = Grant.objects.live().managing().for_user(actor.user_id).values("template")
        own = Grant.objects.for_user(actor.user_id).values("pk")
        return self.filter(Q(pk__in=own) | Q(template__in=managed))

    def for_page(self) -> GrantQuerySet:
        return self.select_related("template", "user", "role__group", "created_by")


class Grant(BaseModel):
    """Who may use a template: an account or a role, at a level, within limits, until an end."""

    class Level(models.TextChoices):
        USE = "use"
        MANAGE = "manage"  # use, change the template, and grant it

    template = models.ForeignKey(Template, on_delete=models.CASCADE, related_name="grants")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="grants",
    )
    role = models.ForeignKey(
        "accounts.Role", on_delete=models.CASCADE, null=True, blank=True, related_name="grants"
    )
    level = models.CharField(max_length=10, choices=Level.choices, default=Level.USE)
    # Limits are shared by the members of a role. `vms` counts those that are not final.
    maximum_vms = models.PositiveIntegerField(null=True, blank=True)
    vms = models.PositiveIntegerField(default=0)
    maximum_lease_seconds = models.PositiveIntegerField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    expiry_applied = models.BooleanField(default=False)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    objects = GrantQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, role__isnull=True)
                | Q(user__isnull=True, role__isnull=False),
                name="grant_one_subject",
            )
        ]

    def __str__(self) -> str:
        return f"{self.template} → {self.subject_name}"

    @property
    def subject(self) -> str:
        return f"grant:{self.pk}"

    @property
    def name(self) -> str:
        return str(self)[:200]

    @property
    def subject_name(self) -> str:
        return self.user.username if self.user else f"role {self.role}"
