"""The pages of all grants: many given or revoked at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from jobs import batches
from orchestrator.refusals import Forbidden, Refusal
from orchestrator.web import pages
from vms import bulk, bulk_grants
from vms.access_forms import GrantFilters, GrantManyForm
from vms.models import Template, managed_by
from vms.views.templates import with_state

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpResponse

    from accounts.actors import Actor
    from orchestrator.web.pages import PageRequest


def _managed(actor: Actor) -> QuerySet[Template]:
    """Return the live templates that the actor may grant."""
    rows = Template.objects.live()
    if actor.can("templates.manage"):
        return rows
    return rows.filter(pk__in=managed_by(actor))


@pages.page
@require_safe
def grant_list(request: PageRequest) -> HttpResponse:
    """Show the grants that the reader may see, with what can be done to many at once."""
    asked = request.GET.copy()
    asked.setdefault("state", "live")
    filters = GrantFilters(asked, bulk.grant_rows(request.actor))
    grants_some = _managed(request.actor).exists()
    context = {
        "slice": pages.newest_first(request, with_state(filters.qs)),
        "filters": filters,
        "query": asked.urlencode(),
        "bulk": batches.verbs_on("grant") if grants_some else {},
        "grants_some": grants_some,
    }
    return pages.render(request, "vms/grants.html", context, partial="rows")


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: PageRequest) -> HttpResponse:
    """Grant many templates to many subjects: shows what that gives, then gives exactly that."""
    templates = _managed(request.actor)
    if not templates.exists():
        raise Forbidden("You may grant no template. Ask an owner, or an administrator.")
    form = GrantManyForm(pages.posted(request), templates=templates)
    seen = None
    if form.is_valid():
        values = dict(form.cleaned_data)
        selection = values.pop("selection")
        asked = {name: list(values.pop(name)) for name in ("templates", "users", "roles")}
        terms = bulk_grants.Terms(**values)
        try:
            seen = bulk_grants.preview(request.actor, **asked, terms=terms)
            if selection:
                job = bulk_grants.grant_many(
                    request.actor, **asked, terms=terms, selection=selection
                )
                return pages.done(request, reverse("vms:grants"), job.message)
        except Refusal as refusal:
            pages.put_into(form, refusal)
    context = {"form": form, "seen": seen}
    return pages.render(
        request,
        "vms/grant_many.html",
        context,
        partial="form",
        status=pages.status_of(form),
    )
