"""Who may act in an environment that is restricted, and how far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models import Role
from deployments.models.environments import Environment
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from accounts.actors import Actor


class AccessQuerySet(models.QuerySet["EnvironmentAccess"]):
    def visible_to(self, actor: Actor) -> AccessQuerySet:
        return self if actor.can("deployments.view") else self.none()

    def reaching(self, actor: Actor) -> AccessQuerySet:
        """Return what reaches the actor's account, directly or by one of its roles."""
        if actor.user_id is None:
            return self.none()
        return self.filter(Q(user=actor.user_id) | Q(role__in=actor.role_ids))

    def at_least(self, level: str) -> AccessQuerySet:
        levels = EnvironmentAccess.Level.values
        return self.filter(level__in=levels[levels.index(level) :])

    def for_page(self) -> AccessQuerySet:
        return self.select_related("environment", "user", "role__group", "created_by")


class EnvironmentAccess(BaseModel):
    """A line of an environment's list: an account or a role, and how far it may go there.

    It counts only while the environment is restricted, and only for what the account's own roles
    allow at all: it never gives a permission.
    """

    class Level(models.TextChoices):
        """Each has those before it."""

        CONTROL = "control", "Control tasks"
        DEPLOY = "deploy", "Deploy"
        ADMINISTER = "administer", "Administer"

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="access")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+"
    )
    role = models.ForeignKey(Role, on_delete=models.CASCADE, null=True, related_name="+")
    level = models.CharField(max_length=10, choices=Level.choices)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )

    objects = AccessQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, role__isnull=True)
                | Q(user__isnull=True, role__isnull=False),
                name="access_of_user_or_role",
            ),
            models.CheckConstraint(
                condition=Q(level__in=["control", "deploy", "administer"]), name="access_level"
            ),
            models.UniqueConstraint(
                fields=["environment", "user"], condition=Q(role=None), name="access_user_once"
            ),
            models.UniqueConstraint(
                fields=["environment", "role"], condition=Q(user=None), name="access_role_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject_name}: {self.level}"

    @property
    def subject_name(self) -> str:
        return f"role {self.role.name}" if self.role else str(self.user)

    @property
    def subject(self) -> str:
        return f"environment_access:{self.pk}"
