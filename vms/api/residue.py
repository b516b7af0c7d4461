"""What VMs left on their hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import django_filters

from jobs.api import VerbView
from orchestrator.api.references import as_id
from orchestrator.api.views import ApiView, Lists
from vms import residue
from vms.api.receipts import ResidueOutput
from vms.models import Residue

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from jobs.models import Job


class ResidueFilter(django_filters.FilterSet):
    open = django_filters.BooleanFilter(method="by_open", help_text="Still there, or gone.")
    ours = django_filters.BooleanFilter(help_text="Carries our mark, or does not.")
    kind = django_filters.MultipleChoiceFilter(choices=Residue.Kind.choices)
    host = django_filters.CharFilter(
        field_name="receipt__placement__host", method="by_reference", help_text="Id or name."
    )
    vm = django_filters.UUIDFilter(field_name="receipt__placement__vm")

    class Meta:
        model = Residue
        fields = ["open", "ours", "kind", "host", "vm"]

    def by_open(self, rows: Any, name: str, value: bool) -> Any:
        return rows.open() if value else rows.exclude(fixed_at=None)

    def by_reference(self, rows: Any, name: str, value: str) -> Any:
        pk = as_id(value)
        return rows.filter(**({name: pk} if pk else {f"{name}__name__iexact": value}))


class ResidueView(ApiView):
    tag = "residues"
    model = Residue
    output: Any = ResidueOutput

    def rows(self) -> QuerySet[Residue]:
        return Residue.objects.all().visible_to(self.actor).for_page()


class ResidueList(ResidueView, Lists):
    filterset_class = ResidueFilter
    docs: ClassVar[dict[str, str]] = {
        "GET": "List what VMs that you may see left on their hosts, newest first."
    }


class ResidueVerb(ResidueView, VerbView):
    output = VerbView.output
    permission = "vms.manage_all"


class ResidueFix(ResidueVerb):
    docs: ClassVar[dict[str, str]] = {
        "POST": "Remove it from its host. Only what carries our mark; else 409 with `not_ours`."
    }

    def act(self, target: Residue, data: dict[str, Any]) -> Job:
        return residue.fix(self.actor, target)


class ResidueCheck(ResidueVerb):
    docs: ClassVar[dict[str, str]] = {"POST": "Look on the host whether it is still there."}

    def act(self, target: Residue, data: dict[str, Any]) -> Job:
        return residue.check(self.actor, target)
