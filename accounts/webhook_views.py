"""The pages of webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import webhooks
from accounts.models import User
from events.models import Webhook
from orchestrator.web import pages

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest

SHOWN = 50
form_view = require_http_methods(["GET", "HEAD", "POST"])


class KindsField(forms.CharField):
    """Kinds of events in one line, between commas or spaces; the value is a list."""

    def to_python(self, value: object) -> list[str]:  # type: ignore[override]
        return str(value or "").replace(",", " ").split()

    def prepare_value(self, value: object) -> object:
        return ", ".join(value) if isinstance(value, list) else value


class WebhookForm(forms.Form):
    """An address for events."""

    name = forms.CharField(max_length=100)
    url = forms.CharField(label="Address", max_length=500)
    kinds = KindsField(
        required=False,
        label="Events",
        help_text=f"Such as vm, lease.ending. Nouns: {', '.join(webhooks.NOUNS)}. "
        "Empty: all but audit, the audit trail, which has to be named.",
    )


def _webhook(request: PageRequest, id: UUID) -> Webhook:
    found: Webhook = get_object_or_404(webhooks.visible_to(request.actor).defer("secret"), pk=id)
    return found


def _page_of(webhook: Webhook) -> str:
    return reverse("accounts:webhook", args=[webhook.pk])


@pages.page
@require_safe
def webhook_list(request: PageRequest) -> HttpResponse:
    """List the webhooks that the viewer may see, newest first."""
    rows = pages.newest_first(request, webhooks.visible_to(request.actor).defer("secret"))
    owners = User.objects.in_bulk({webhook.owner_id for webhook in rows})
    context = {"slice": rows, "owners": owners}
    return pages.render(request, "accounts/webhooks.html", context, partial="rows")


@pages.page
@form_view
def webhook_create(request: PageRequest) -> HttpResponse:
    """Make a webhook. Its secret is shown on the page that answers, and nowhere else."""
    request.actor.require("webhooks.use")
    form = WebhookForm(pages.posted(request))
    made = pages.accepted(form, lambda v: webhooks.create_webhook(request.actor, **v))
    if made:
        context = {"webhook": made[0], "secret": made[1]}
        return pages.render(request, "accounts/webhook_secret.html", context)
    return pages.render(
        request, "accounts/webhook_new.html", {"form": form}, status=pages.status_of(form)
    )


@pages.page
@require_safe
def webhook_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show a webhook and what was sent to it."""
    webhook = _webhook(request, id)
    context = {
        "webhook": webhook,
        "owner": User.objects.filter(pk=webhook.owner_id).first(),
        "deliveries": webhook.deliveries.order_by("-pk")[:SHOWN],
    }
    return pages.render(request, "accounts/webhook.html", context, partial="webhook")


@pages.page
@require_POST
def webhook_test(request: PageRequest, id: UUID) -> HttpResponse:
    """Send a ping."""
    webhook = _webhook(request, id)
    webhooks.send_test(request.actor, webhook)
    return pages.done(request, _page_of(webhook), "A ping is on its way.")


@pages.page
@require_POST
def webhook_pause(request: PageRequest, id: UUID) -> HttpResponse:
    """Pause a webhook, or let it go on."""
    webhook = _webhook(request, id)
    (webhooks.resume if webhook.paused_at else webhooks.pause)(request.actor, webhook)
    return pages.done(request, _page_of(webhook), f"{webhook.name} was changed.")


@pages.page
@form_view
def webhook_delete(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete a webhook, after asking."""
    webhook = _webhook(request, id)
    if request.method == "POST":
        webhooks.delete_webhook(request.actor, webhook)
        return pages.done(request, reverse("accounts:webhooks"), f"{webhook.name} was deleted.")
    context = {
        "title": f"Delete {webhook.name}",
        "text": "Nothing more is sent there, and what was sent is forgotten.",
        "verb": "Delete",
        "danger": True,
        "cancel_url": _page_of(webhook),
        "webhook": webhook,
    }
    return pages.render(request, "accounts/webhook_dialog.html", context, partial="form")


@pages.page
@require_POST
def redeliver(request: PageRequest, id: UUID, delivery: UUID) -> HttpResponse:
    """Send a delivery once more."""
    webhook = _webhook(request, id)
    found = get_object_or_404(webhook.deliveries.select_related("webhook"), pk=delivery)
    webhooks.redeliver(request.actor, found)
    return pages.done(request, _page_of(webhook), "It is sent once more.")
