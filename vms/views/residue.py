"""The page of what VMs left on their hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import django_filters
from django.db.models import Q
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from hosts.forms import SearchInput
from orchestrator.web import pages
from vms import residue
from vms.models import Residue

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models import QuerySet
    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest


class ResidueFilters(django_filters.FilterSet):
    """What the list of residues can be narrowed by."""

    q = django_filters.CharFilter(method="search", label="Search", widget=SearchInput)
    state = django_filters.ChoiceFilter(
        method="in_state",
        label="State",
        choices=[("open", "Still there"), ("fixed", "Gone")],
        empty_label="Any state",
    )
    host = django_filters.CharFilter(
        field_name="receipt__placement__host__name",
        lookup_expr="icontains",
        label="Host",
        widget=SearchInput,
    )
    ours = django_filters.ChoiceFilter(
        method="whose",
        label="Whose",
        choices=[("yes", "Ours"), ("no", "Not ours")],
        empty_label="Anybody’s",
    )

    class Meta:
        model = Residue
        fields: list[str] = []

    def search(self, rows: QuerySet[Residue], name: str, text: str) -> QuerySet[Residue]:
        return rows.filter(
            Q(detail__icontains=text) | Q(receipt__placement__vm__name__icontains=text)
        )

    def in_state(self, rows: QuerySet[Residue], name: str, state: str) -> QuerySet[Residue]:
        return rows.open() if state == "open" else rows.exclude(fixed_at=None)  # type: ignore[attr-defined]

    def whose(self, rows: QuerySet[Residue], name: str, ours: str) -> QuerySet[Residue]:
        return rows.filter(ours=ours == "yes")


@pages.page
@require_safe
def residue_list(request: PageRequest) -> HttpResponse:
    """Show what VMs left on their hosts, newest first; at first what is still there."""
    asked = request.GET.copy()
    asked.setdefault("state", "open")
    filters = ResidueFilters(asked, Residue.objects.all().visible_to(request.actor).for_page())
    context = {"slice": pages.newest_first(request, filters.qs), "filters": filters}
    return pages.render(request, "vms/residues.html", context, partial="rows")


@pages.page
@require_POST
def fix(request: PageRequest, id: UUID) -> HttpResponse:
    """Remove from its host what a VM left there."""
    found = _residue(request, id)
    residue.fix(request.actor, found)
    return pages.done(request, _back(request, found), "It is being removed.")


@pages.page
@require_POST
def check(request: PageRequest, id: UUID) -> HttpResponse:
    """Look again whether it is still there."""
    found = _residue(request, id)
    residue.check(request.actor, found)
    return pages.done(request, _back(request, found), "The host is being looked at.")


def _residue(request: PageRequest, id: UUID) -> Residue:
    """Return the residue that the address names; 404 for that of a VM the actor may not see."""
    visible = Residue.objects.all().visible_to(request.actor)
    found: Residue = get_object_or_404(visible.for_page(), pk=id)
    return found


def _back(request: PageRequest, found: Residue) -> str:
    """Return the page with the button that was pressed: the VM's, else the list."""
    vm = reverse("vms:detail", args=[found.receipt.placement.vm_id])
    here = urlsplit(request.htmx.current_url_abs_path or "").path
    return vm if here == vm else reverse("vms:residues")
