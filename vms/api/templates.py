"""Templates, grants, and tokens narrowed to templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import django_filters
from django.db.models import Q, QuerySet
from rest_framework.response import Response

from accounts import revocation
from accounts.api import tokens
from accounts.api.serializers import KillInput, RevokeInput
from accounts.models import Role, User
from accounts.revocation import CHOICES
from catalog.api import DerivedOutput, derived
from catalog.models import Image
from jobs.api import VerbView
from orchestrator.api.references import as_id, lookup, resolve
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows
from orchestrator.refusals import NotFound
from vms import access, grants, templates
from vms.api import serializers
from vms.models import Grant, Template

if TYPE_CHECKING:
    from uuid import UUID

    from rest_framework.request import Request

    from accounts.actors import Actor
    from jobs.models import Job


def template_named(actor: Actor, reference: str) -> Template:
    """Return the template that `reference` means; raises `NotFound` when the actor sees none."""
    found = lookup(Template.objects.visible_to(actor), reference)
    if found is None:
        raise NotFound(f"There is no template “{reference}” that you may see.")
    return found


class TemplateFilter(django_filters.FilterSet):
    name = django_filters.CharFilter(lookup_expr="iexact")
    live = django_filters.BooleanFilter(
        field_name="revoked_at", lookup_expr="isnull", help_text="Only live, or only revoked."
    )

    class Meta:
        model = Template
        fields = ["name", "live"]


class TemplateView(ApiView):
    tag = "templates"
    model = Template
    output: Any = serializers.TemplateOutput

    def rows(self) -> QuerySet[Template]:
        rows = Template.objects.visible_to(self.actor)
        return rows.select_related("owner").prefetch_related("images")

    def images(self, references: list[str]) -> list[Image]:
        """Return the images that a body names by id."""
        visible = Image.objects.visible_to(self.actor)
        return [
            resolve(visible, reference, field="images", name="catalog_id")
            for reference in references
        ]


class TemplateList(TemplateView, Lists, Posts):
    input = serializers.TemplateInput
    filterset_class = TemplateFilter
    permission = "templates.manage"
    docs = {
        "GET": "List the templates that you may see.",
        "POST": "Make a template of images, or of a VM to clone.",
    }

    def perform(self, data: dict[str, Any]) -> Template:
        self.actor.require(self.permission)  # before images are told from absent ones
        if "images" in data:
            data["images"] = self.images(data["images"])
        return templates.create_template(self.actor, **data)


class TemplateItem(TemplateView, Shows, Patches):
    changes = serializers.TemplateChanges
    docs = {
        "GET": "Show a template.",
        "PATCH": "Change a template, for VMs asked for from now on.",
    }

    def change(self, template: Template, data: dict[str, Any]) -> None:
        if "images" in data:
            data["images"] = self.images(data["images"])
        templates.update_template(self.actor, template, **data)


class TemplateImpact(TemplateView):
    output = DerivedOutput
    docs = {
        "GET": "List all that was made from a template: VMs that wait, VMs that exist, and copies "
        "of its images in the caches of hosts that no other template needs."
    }

    def get(self, request: Request, **kwargs: Any) -> Response:
        template = self.target()
        access.require_manage(self.actor, template)
        hits = revocation.preview(revocation.Revoked("template", template.pk))
        return Response(self.represent(derived(self.actor, hits, templates.own_images(template))))


class TemplateRevoke(TemplateView, VerbView):
    input = KillInput
    output = VerbView.output
    docs = {
        "POST": "Revoke a template: nobody may use it any more, and its running VMs are kept, "
        "stopped or deleted as chosen, and so are copies of its images in the caches of hosts."
    }

    def check_replay(self) -> None:
        self.actor.require_scope("templates")

    def act(self, target: Template, data: dict[str, Any]) -> Job:
        return templates.revoke_template(self.actor, target, **data)


class GrantFilter(django_filters.FilterSet):
    template = django_filters.CharFilter(method="by_template", help_text="Id or name.")
    subject = django_filters.CharFilter(
        method="by_subject", help_text="A user or role: id or name."
    )
    live = django_filters.BooleanFilter(method="by_live", help_text="Only live, or only ended.")

    class Meta:
        model = Grant
        fields = ["template", "subject", "live"]

    def by_template(self, rows: Any, name: str, value: str) -> Any:
        return rows.filter(Q(template=as_id(value)) | Q(template__name__iexact=value))

    def by_subject(self, rows: Any, name: str, value: str) -> Any:
        pk = as_id(value)
        return rows.filter(
            (Q(user=pk) if pk else Q(user__username__iexact=value))
            | (Q(role=pk) if pk else Q(role__group__name__iexact=value))
        )

    def by_live(self, rows: Any, name: str, value: bool) -> Any:
        live = Grant.objects.live().values("pk")
        return rows.filter(pk__in=live) if value else rows.exclude(pk__in=live)


class GrantView(ApiView):
    tag = "grants"
    model = Grant
    output: Any = serializers.GrantOutput

    def rows(self) -> QuerySet[Grant]:
        return Grant.objects.visible_to(self.actor).for_page()


class GrantList(GrantView, Lists, Posts):
    input = serializers.GrantInput
    filterset_class = GrantFilter
    docs = {
        "GET": "List the grants that concern you.",
        "POST": "Let a user or a role use a template, within limits, until an end.",
    }

    def check_replay(self) -> None:
        self.actor.require_scope("templates")

    def perform(self, data: dict[str, Any]) -> Grant:
        data["template"] = template_named(self.actor, data["template"])
        # Whoever may manage a template may grant it to anybody whose exact name they know.
        access.require_manage(self.actor, data["template"])
        if "user" in data:
            data["user"] = resolve(User.objects.all(), data["user"], field="user", name="username")
        if "role" in data:
            rows = Role.objects.select_related("group")
            data["role"] = resolve(rows, data["role"], field="role", name="group__name")
        return grants.grant_template(self.actor, **data)


class GrantItem(GrantView, Shows):
    docs = {"GET": "Show a grant."}


class GrantImpact(GrantView):
    output = serializers.ImpactOutput
    docs = {"GET": "List what revoking the grant would hit now."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        grant = self.target()
        impact = {
            "hits": grants.impact(self.actor, grant),
            "tokens": grants.tokens_losing(self.actor, grant),
            "choices": CHOICES,
        }
        return Response(self.represent(impact))


class GrantRevoke(GrantView, VerbView):
    input = RevokeInput
    output = VerbView.output
    docs = {
        "POST": "Revoke a grant: the next request is refused, queued work is cancelled, and "
        "running VMs are kept, stopped or deleted as chosen."
    }

    def check_replay(self) -> None:
        self.actor.require_scope("templates")

    def act(self, target: Grant, data: dict[str, Any]) -> Job:
        return grants.revoke_grant(self.actor, target, **data)


class _ByName(ApiView):
    """Templates that narrow tokens, by id or name."""

    def template_ids(self, references: list[str]) -> list[UUID]:
        rows = Template.objects.visible_to(self.actor)
        return [resolve(rows, reference, field="templates").pk for reference in references]


class TokenList(_ByName, tokens.TokenList):
    """Tokens."""


class TokenItem(_ByName, tokens.TokenItem):
    """One token."""
