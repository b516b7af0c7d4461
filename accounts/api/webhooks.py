"""`/api/v2/webhooks/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rest_framework import serializers
from rest_framework.response import Response

from accounts import webhooks
from events.models import Delivery, Webhook
from orchestrator.api.serializers import Flag, Input, Output, Text, Texts
from orchestrator.api.views import ApiView, Lists, Patches, Posts, Shows

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request

KINDS = (
    "Such as `vm`, `lease.ending`. Default: all events. `audit` is the audit trail, for those who "
    "may read it; it is sent only where it is named."
)


class WebhookOutput(Output):
    """An address that gets events which its owner may see."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    url = serializers.CharField()
    kinds = serializers.ListField(
        child=serializers.CharField(), help_text="`vm.changed`, or a noun for all its kinds."
    )
    owner = serializers.UUIDField(source="owner_id")
    paused = serializers.SerializerMethodField()
    paused_reason = serializers.CharField()
    created_at = serializers.DateTimeField()

    def get_paused(self, webhook: Webhook) -> bool:
        return webhook.paused_at is not None


class NewWebhookOutput(WebhookOutput):
    """A new webhook, with the secret that signs what it gets. It is shown once."""

    secret = serializers.CharField()


class WebhookInput(Input):
    name = Text(max_length=100)
    url = Text(max_length=500)
    kinds = Texts(required=False, help_text=KINDS)


class WebhookChanges(Input):
    name = Text(max_length=100, required=False)
    url = Text(max_length=500, required=False)
    kinds = Texts(required=False)
    paused = Flag(required=False)


class DeliveryOutput(Output):
    """One event on its way to a webhook."""

    id = serializers.UUIDField(help_text="The header `webhook-id`, the same at each try.")
    kind = serializers.CharField()
    subject = serializers.CharField()
    sequence = serializers.IntegerField(allow_null=True, help_text="Of the event.")
    state = serializers.ChoiceField(Delivery.State.choices)
    tries = serializers.IntegerField()
    status = serializers.IntegerField(allow_null=True, help_text="What the receiver answered.")
    milliseconds = serializers.IntegerField(allow_null=True)
    answer = serializers.CharField(help_text="The first bytes of the answer.")
    problem = serializers.CharField(help_text="Why there was no answer.")
    next_at = serializers.DateTimeField(help_text="Of one that is pending.")
    created_at = serializers.DateTimeField()


class WebhookView(ApiView):
    tag = "webhooks"
    model = Webhook
    output: Any = WebhookOutput

    def rows(self) -> QuerySet[Webhook]:
        return webhooks.visible_to(self.actor).defer("secret")


class WebhookList(WebhookView, Lists, Posts):
    input = WebhookInput
    post_output = NewWebhookOutput
    shown_once: ClassVar[bool] = True
    permission = "webhooks.use"
    docs = {
        "GET": "List your webhooks; everybody's with the right to see accounts.",
        "POST": "Have events sent to an address. Shows the secret that signs them, once.",
    }

    def perform(self, data: dict[str, Any]) -> Webhook:
        webhook, secret = webhooks.create_webhook(self.actor, **data)
        webhook.secret = secret
        return webhook

    def answer(self, thing: Webhook) -> Response:
        body = NewWebhookOutput(thing).data
        return Response(body, status=201, headers={"Location": self.location(thing)})


class WebhookItem(WebhookView, Shows, Patches):
    changes = WebhookChanges
    docs = {
        "GET": "Show a webhook.",
        "PATCH": "Change it, pause it, or let it go on with what happened meanwhile.",
        "DELETE": "Delete a webhook with its deliveries.",
    }

    def change(self, thing: Webhook, data: dict[str, Any]) -> None:
        paused = data.pop("paused", None)
        webhooks.change_webhook(self.actor, thing, **data)
        if paused is not None and paused != (thing.paused_at is not None):
            (webhooks.pause if paused else webhooks.resume)(self.actor, thing)

    def delete(self, request: Request, **kwargs: Any) -> Response:
        webhooks.delete_webhook(self.actor, self.target())
        return Response(status=204)


class DeliveryView(ApiView):
    tag = "webhooks"
    model = Delivery
    output: Any = DeliveryOutput
    lookup_url_kwarg = "delivery"

    def webhook(self) -> Webhook:
        found: Webhook = self.find(self.kwargs["id"], webhooks.visible_to(self.actor))
        return found

    def rows(self) -> QuerySet[Delivery]:
        return Delivery.objects.filter(webhook=self.webhook()).select_related("webhook")


class DeliveryList(DeliveryView, Lists):
    docs = {"GET": "List what was sent to a webhook, newest first, and what came of it."}


class WebhookTest(DeliveryView, Posts):
    status = 202
    docs = {"POST": "Send a `ping`. Read its delivery to see what came of it."}

    def perform(self, data: dict[str, Any]) -> Delivery:
        made = webhooks.send_test(self.actor, self.webhook())
        found: Delivery = self.find(made.pk, self.get_queryset())
        return found

    def check_replay(self) -> None:
        self.actor.require("webhooks.use")


class Redeliver(DeliveryView, Posts):
    status = 202
    docs = {"POST": "Send a delivery that has ended once more, with the same id."}

    def perform(self, data: dict[str, Any]) -> Delivery:
        return webhooks.redeliver(self.actor, self.target())

    def check_replay(self) -> None:
        self.actor.require("webhooks.use")
