"""The pages of templates and grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Case, Count, OuterRef, Prefetch, Subquery, Value, When
from django.db.models.functions import Coalesce, Now
from django.forms import model_to_dict
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from accounts import revocation
from accounts.models import AuditEvent
from catalog.forms import KillForm
from catalog.views import shown_copies
from orchestrator.web import pages
from vms import access, grants, matrix, pools, templates
from vms.forms import GrantForm, RevokeForm, TemplateFilters, TemplateForm, WarmPoolForm
from vms.models import Grant, Template, VirtualMachine

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor
    from orchestrator.web.pages import PageRequest

SHOWN_GRANTS = 200
form_view = require_http_methods(["GET", "HEAD", "POST"])


def with_state(rows: QuerySet[Grant]) -> QuerySet[Grant]:
    """Say of each grant whether it is live, expired or revoked, by the database's clock."""
    return rows.annotate(
        state=Case(
            When(revoked_at__isnull=False, then=Value("revoked")),
            When(expires_at__lte=Now(), then=Value("expired")),
            default=Value("live"),
        )
    )


def _own_grants(actor: Actor) -> Prefetch:
    """Return what makes `template.own_grants`: why the actor may (or might) use it, best first."""
    rows = with_state(Grant.objects.for_user(actor.user_id)).select_related("role__group")
    return Prefetch("grants", rows.order_by("-pk"), to_attr="own_grants")


def _templates(actor: Actor) -> QuerySet[Template]:
    vms = VirtualMachine.objects.visible_to(actor).open().filter(template=OuterRef("pk"))
    number = vms.order_by().values("template").annotate(number=Count("pk")).values("number")
    return (
        Template.objects.visible_to(actor)
        .select_related("owner")
        .prefetch_related("images", _own_grants(actor))
        .annotate(vm_count=Coalesce(Subquery(number), 0))
    )


def _template(request: PageRequest, id: UUID, *, manage: bool = True) -> Template:
    """Return the template that the address names; 404 for what the actor may not see."""
    template = get_object_or_404(_templates(request.actor), pk=id)
    if manage:
        access.require_manage(request.actor, template)
    return template


def _page_of(template: Template) -> str:
    return reverse("vms:template", args=[template.pk])


@pages.page
@require_safe
def template_list(request: PageRequest) -> HttpResponse:
    """Show the templates that the reader may see, and why they may use each."""
    asked = request.GET.copy()
    asked.setdefault("state", "live")
    filters = TemplateFilters(asked, _templates(request.actor))
    context = {"slice": pages.newest_first(request, filters.qs), "filters": filters}
    return pages.render(request, "vms/templates.html", context, partial="rows")


@pages.page
@require_safe
def detail(request: PageRequest, id: UUID) -> HttpResponse:
    """Show a template: what it is, who may use it, its VMs, its history."""
    template = _template(request, id, manage=False)
    shown = (
        with_state(Grant.objects.visible_to(request.actor).filter(template=template))
        .for_page()  # type: ignore[attr-defined]
        .order_by(Case(When(state="live", then=0), default=1), "-pk")[:SHOWN_GRANTS]
    )
    subjects = [f"template:{template.pk}", *(f"grant:{grant.pk}" for grant in shown)]
    may_manage = access.may_manage(request.actor, template)
    told = may_manage or request.actor.can("templates.view_all")
    context = {
        "template": template,
        "may_manage": may_manage,
        "ways": matrix.who_can_use(request.actor, template) if told else None,
        "grants": shown,
        "pool": (pool := pools.pool_of(template)),
        "ready": pools.ready(pool).count() if pool.size else 0,
        "vms": VirtualMachine.objects.visible_to(request.actor)
        .open()
        .filter(template=template)
        .for_page()
        .order_by("-pk")[:20],
        "audit": AuditEvent.objects.visible_to(request.actor)
        .filter(subject__in=subjects)
        .order_by("-pk")[:15],
    }
    return pages.render(request, "vms/template.html", context, partial="live")


@pages.page
@form_view
def new(request: PageRequest) -> HttpResponse:
    """Make a template."""
    request.actor.require("templates.manage")
    form = TemplateForm(pages.posted(request), actor=request.actor)
    if made := pages.accepted(form, lambda v: templates.create_template(request.actor, **v)):
        return pages.done(request, _page_of(made), f"{made.name} was made. Grant it to somebody.")
    context = {"form": form, "title": "New template", "verb": "Make the template"}
    return pages.render(
        request, "vms/template_form.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@form_view
def edit(request: PageRequest, id: UUID) -> HttpResponse:
    """Change a template, for VMs asked for from now on."""
    template = _template(request, id)
    form = TemplateForm(
        pages.posted(request),
        actor=request.actor,
        editing=True,
        initial=model_to_dict(template, fields=[*templates.CHANGEABLE, "images"]),
    )
    if pages.accepted(form, lambda v: templates.update_template(request.actor, template, **v)):
        return pages.done(request, _page_of(template), f"{template.name} was changed.")
    context = {"form": form, "template": template, "title": "Change", "verb": "Save"}
    return pages.render(
        request, "vms/template_form.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@form_view
def revoke(request: PageRequest, id: UUID) -> HttpResponse:
    """Revoke a template, after showing what that hits."""
    template = _template(request, id)
    cached_on = shown_copies(request.actor, templates.own_images(template))
    form = KillForm(
        pages.posted(request), copies=bool(cached_on) and request.actor.can("hosts.manage")
    )
    if pages.accepted(form, lambda v: templates.revoke_template(request.actor, template, **v)):
        return pages.done(request, _page_of(template), f"{template.name} was revoked.")
    context = {
        "template": template,
        "form": form,
        "title": f"Revoke the template {template.name}",
        "text": "Nobody may use it any more, whatever they were granted. This cannot be undone.",
        "hits": revocation.preview(revocation.Revoked("template", template.pk)),
        "copies": cached_on,
    }
    return pages.render(
        request, "vms/revoke.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@form_view
def grant(request: PageRequest, id: UUID) -> HttpResponse:
    """Let an account or a role use the template."""
    template = _template(request, id)
    form = GrantForm(pages.posted(request))
    made = pages.accepted(
        form, lambda v: grants.grant_template(request.actor, template=template, **v)
    )
    if made:
        text = f"{made.subject_name} may {made.level} {template.name}."
        return pages.done(request, _page_of(template), text)
    context = {
        "template": template,
        "form": form,
        "title": f"Grant {template.name}",
        "verb": "Grant",
        "text": "Name a user or a role. Limits of a role's grant are shared by its members.",
    }
    return pages.render(
        request, "vms/dialog.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@form_view
def revoke_grant(request: PageRequest, id: UUID) -> HttpResponse:
    """Revoke a grant, after showing what that hits."""
    found = get_object_or_404(Grant.objects.visible_to(request.actor).for_page(), pk=id)
    hits = grants.impact(request.actor, found)
    form = RevokeForm(pages.posted(request))
    if pages.accepted(form, lambda v: grants.revoke_grant(request.actor, found, **v)):
        text = f"The grant of {found.subject_name} was revoked."
        return pages.done(request, _page_of(found.template), text)
    context = {
        "template": found.template,
        "form": form,
        "title": f"Revoke the grant of {found.subject_name}",
        "text": f"The next request for {found.template.name} that relies on it is refused.",
        "hits": hits,
        "losing_tokens": grants.tokens_losing(request.actor, found),
    }
    return pages.render(
        request, "vms/revoke.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@form_view
def warm_pool(request: PageRequest, id: UUID) -> HttpResponse:
    """Keep VMs of a template ready."""
    template = _template(request, id, manage=False)
    request.actor.require("vms.manage_all")
    pool = pools.pool_of(template)
    before = {name: getattr(pool, name) for name in ("size", "kept", "quiet_from", "quiet_until")}
    form = WarmPoolForm(pages.posted(request), initial=before)

    def keep(values: dict[str, Any]) -> Any:
        ends = values["quiet_from"] is None and values["quiet_until"] is None
        return pools.set_pool(request.actor, template, **values, clear_quiet=ends)

    if pages.accepted(form, keep):
        return pages.done(request, _page_of(template), "The warm pool was changed.")
    context = {
        "template": template,
        "form": form,
        "title": f"Warm pool of {template.name}",
        "text": "They are ready when somebody asks. They take only room that nobody waits for.",
        "verb": "Keep them ready",
    }
    return pages.render(
        request, "vms/dialog.html", context, partial="form", status=pages.status_of(form)
    )
