"""Requests for access to a template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from orchestrator.db.clock import from_now
from orchestrator.db.models import BaseModel
from vms.models.templates import Grant, Template

if TYPE_CHECKING:
    from accounts.actors import Actor


class AccessRequestQuerySet(models.QuerySet["AccessRequest"]):
    def open(self) -> AccessRequestQuerySet:
        return self.filter(state=AccessRequest.State.OPEN)

    def unanswered(self) -> AccessRequestQuerySet:
        """Return open requests that nobody answered for as long as they may wait."""
        seconds = settings.ACCESS_REQUEST_DAYS * 86_400
        return self.open().filter(created_at__lte=from_now(-seconds))

    def visible_to(self, actor: Actor) -> AccessRequestQuerySet:
        """Return all requests, or one's own and those for templates that one manages."""
        if actor.can("templates.view_all"):
            return self
        return self.filter(Q(user=actor.user_id) | Q(template__in=managed_by(actor)))

    def for_page(self) -> AccessRequestQuerySet:
        return self.select_related("template", "user", "answered_by", "grant")


class AccessRequest(BaseModel):
    """An account asks for a template, by name.

    The name is kept as it was written, and `template` is null when there is none of that name: one
    who may not see a template learns from their request nothing about whether it exists.
    """

    class State(models.TextChoices):
        OPEN = "open"
        APPROVED = "approved"
        DECLINED = "declined"
        WITHDRAWN = "withdrawn"
        EXPIRED = "expired"

    name = models.CharField(max_length=100)
    template = models.ForeignKey(
        Template, on_delete=models.CASCADE, null=True, related_name="access_requests"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="access_requests"
    )
    reason = models.CharField(max_length=500)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    answer = models.CharField(max_length=500, blank=True)
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    answered_at = models.DateTimeField(null=True)
    grant = models.ForeignKey(Grant, on_delete=models.SET_NULL, null=True, related_name="+")

    objects = AccessRequestQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "user", Lower("name"), name="access_request_open_once", condition=Q(state="open")
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} asks for {self.name}"

    @property
    def subject(self) -> str:
        return f"access_request:{self.pk}"


def managed_by(actor: Actor) -> models.QuerySet[Grant, Any]:
    """Return the ids of the templates that the actor manages by a grant."""
    rows = Grant.objects.live().managing().for_user(actor.user_id)
    if actor.token and actor.token.templates is not None:
        rows = rows.filter(template__in=actor.token.templates)
    return rows.values("template")
