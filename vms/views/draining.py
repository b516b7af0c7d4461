"""The dialog that drains a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from hosts.models import Host
from orchestrator.web import pages
from vms import draining
from vms.forms import DrainForm

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def drain(request: PageRequest, id: UUID) -> HttpResponse:
    """Empty a host of VMs, with a reason that everybody sees."""
    hosts = Host.objects.visible_to(request.actor).defer("password", "api_key")
    host = get_object_or_404(hosts, pk=id)
    request.actor.require("hosts.manage")
    form = DrainForm(pages.posted(request))
    if job := pages.accepted(form, lambda v: draining.drain(request.actor, host, **v)):
        return pages.done(request, reverse("hosts:detail", args=[id]), job.message)
    left = draining.left_on(host).count()
    context = {
        "host": host,
        "form": form,
        "title": f"Drain {host.name}",
        "text": f"It takes no new VMs. {left} of ours are there; none is moved to another host.",
        "verb": "Drain",
    }
    return pages.render(
        request, "hosts/dialog.html", context, partial="form", status=pages.status_of(form)
    )
