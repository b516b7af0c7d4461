"""The dialogs that adopt a foreign VM, and let one of ours go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth import get_user_model
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from hosts.models import Host
from orchestrator.web import pages
from vms import adoption
from vms.forms import AccountChoice, DurationField
from vms.models import Template
from vms.views.machines import page_of, vm_of

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from accounts.actors import Actor
    from orchestrator.web.pages import PageRequest


class AdoptForm(forms.Form):
    """A foreign VM that becomes ours."""

    host_vm_id = forms.CharField(max_length=255, widget=forms.HiddenInput)
    template = forms.ModelChoiceField(
        queryset=Template.objects.none(),
        empty_label="Choose a template",
        widget=forms.Select(attrs={"class": "form-select"}),
        help_text="Says who may have it, how long its lease is and what its end does.",
    )
    owner = AccountChoice(
        queryset=get_user_model().objects.none(),
        widget=forms.Select(attrs={"class": "form-select"}),
        help_text="Needs a grant for the template.",
    )
    name = forms.CharField(required=False, max_length=63, help_text="Empty: as on its host.")
    lease_seconds = DurationField(
        required=False, label="Lease", help_text="Such as 45m, 8h or 1d 12h. Empty: the template's."
    )

    def __init__(self, *arguments: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        templates = Template.objects.visible_to(actor).live().order_by("name")
        self.fields["template"].queryset = templates  # type: ignore[attr-defined]
        accounts = get_user_model().objects.filter(is_active=True).order_by("username")
        self.fields["owner"].queryset = accounts  # type: ignore[attr-defined]
        self.fields["owner"].initial = actor.user_id


form_view = require_http_methods(["GET", "HEAD", "POST"])


@pages.page
@form_view
def adopt(request: PageRequest, id: UUID) -> HttpResponse:
    """Make the foreign VM `?vm=` of a host ours; goes to its page."""
    hosts = Host.objects.visible_to(request.actor).defer("password", "api_key")
    host = get_object_or_404(hosts, pk=id)
    for right in adoption.RIGHTS:
        request.actor.require(right)
    asked = request.POST.get("host_vm_id") or request.GET.get("vm", "")
    listed = get_object_or_404(host.listed_vms.all(), host_vm_id=asked, claimed=False)
    form = AdoptForm(pages.posted(request), actor=request.actor, initial={"host_vm_id": asked})
    if job := pages.accepted(form, lambda v: adoption.adopt(request.actor, host, **v)):
        goes_to = reverse("vms:detail", args=[job.subject_id])
        return pages.done(request, goes_to, f"{listed.name} is ours now.")
    context = {
        "host": host,
        "form": form,
        "title": f"Adopt {listed.name}",
        "text": "It is charged like every VM of ours, gets a name with our mark on its host, and "
        "ends with its lease as the template says.",
        "verb": "Adopt",
    }
    return pages.render(
        request, "hosts/dialog.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@form_view
def let_go(request: PageRequest, id: UUID) -> HttpResponse:
    """Manage a VM no longer, after asking."""
    vm = vm_of(request, id)
    for right in adoption.RIGHTS:
        request.actor.require(right)
    form = forms.Form(pages.posted(request))
    if pages.accepted(form, lambda v: adoption.let_go(request.actor, vm)):
        return pages.done(request, page_of(vm), f"{vm.name} is being let go.")
    context = {
        "vm": vm,
        "form": form,
        "title": f"Let {vm.name} go",
        "text": "It stays on its host as it is, but is not ours any more: no lease ends it, nobody "
        "can act on it from here, and it counts as foreign.",
        "verb": "Let it go",
        "danger": True,
    }
    return pages.render(
        request, "vms/verb.html", context, partial="form", status=pages.status_of(form)
    )
