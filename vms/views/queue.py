"""The page of the queue: who waits for what, the quotas that bind, and the hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from orchestrator.web import pages
from vms import bulk, queue, quotas
from vms.forms import HoldQueueForm, QuotaChangesForm, QuotaForm
from vms.models import Quota, VirtualMachine
from vms.models.queueing import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest

form_view = require_http_methods(["GET", "HEAD", "POST"])
SHOWN = 200  # pending VMs, in the queue's order


@pages.page
@require_safe
def queue_page(request: PageRequest) -> HttpResponse:
    """Show the pending VMs that the viewer may see, in order, and the quotas that bind them."""
    places = queue.places()
    waiting = list(bulk.rows(request.actor).filter(state="pending"))
    last = len(places) + 1  # asked for since the last pass
    waiting.sort(key=lambda vm: (places[vm.pk].position if vm.pk in places else last, vm.pk))
    for vm in waiting:
        vm.place = places.get(vm.pk)  # type: ignore[attr-defined]
    context = {
        "state": queue.state(),
        "waiting": waiting[:SHOWN],
        "left_out": len(waiting[SHOWN:]),
        "length": VirtualMachine.objects.pending().count(),
        "quotas": [
            (quota, _amounts(quota))
            for quota in Quota.objects.visible_to(request.actor).for_page().order_by("pk")
        ],
    }
    return pages.render(request, "vms/queue.html", context, partial="live")


def _amounts(quota: Quota) -> list[tuple[str, int, int]]:
    """Return what is used of each limit: words, used, limit."""
    used = quotas.used_of(quota)
    return [
        (what, used[name], getattr(quota, name))
        for name, what in LIMITS.items()
        if getattr(quota, name) is not None
    ]


@pages.page
@form_view
def hold(request: PageRequest) -> HttpResponse:
    """Hold the queue, with a note that everybody who waits sees."""
    request.actor.require("vms.manage_all")
    return _dialog(
        request,
        HoldQueueForm(pages.posted(request), initial={"note": queue.state().note}),
        lambda values: queue.hold(request.actor, **values),
        title="Hold the queue",
        text="What is pending waits until you release it. VMs that have a host go on.",
        verb="Hold it",
        told="The queue is held.",
    )


@pages.page
@require_POST
def release(request: PageRequest) -> HttpResponse:
    """Let the queue go on."""
    queue.release(request.actor)
    return pages.done(request, reverse("vms:queue"), "The queue goes on.")


@pages.page
@form_view
def new_quota(request: PageRequest) -> HttpResponse:
    """Limit what an account or a role may have placed at once."""
    request.actor.require("accounts.manage")
    return _dialog(
        request,
        QuotaForm(pages.posted(request)),
        lambda values: quotas.set_quota(request.actor, **values),
        title="Set a quota",
        text="Who is at a limit waits in the queue. Nothing that runs is ended by it.",
        verb="Set it",
        told="The quota is set.",
    )


@pages.page
@form_view
def edit_quota(request: PageRequest, id: UUID) -> HttpResponse:
    """Change the limits of a quota."""
    request.actor.require("accounts.manage")
    quota = get_object_or_404(Quota.objects.visible_to(request.actor).for_page(), pk=id)
    before = {name: getattr(quota, name) for name in (*LIMITS, "borrow")}
    return _dialog(
        request,
        QuotaChangesForm(pages.posted(request), initial=before),
        lambda values: quotas.change_quota(request.actor, quota, **values),
        title=f"Quota of {quota.subject_name}",
        verb="Change it",
        told="The quota was changed.",
    )


@pages.page
@form_view
def remove_quota(request: PageRequest, id: UUID) -> HttpResponse:
    """Take a quota away, after asking."""
    request.actor.require("accounts.manage")
    quota = get_object_or_404(Quota.objects.visible_to(request.actor).for_page(), pk=id)

    def remove(values: dict[str, Any]) -> bool:
        quotas.remove_quota(request.actor, quota)
        return True

    return _dialog(
        request,
        forms.Form(pages.posted(request)),
        remove,
        title=f"Remove the quota of {quota.subject_name}",
        text="Nothing limits how much of the pool it may use then.",
        verb="Remove it",
        told="The quota was removed.",
        danger=True,
    )


def _dialog(
    request: PageRequest, form: forms.Form, act: Callable[[dict[str, Any]], Any], **context: Any
) -> HttpResponse:
    return pages.dialog(
        request, "vms/queue_dialog.html", form, act, back=reverse("vms:queue"), **context
    )
