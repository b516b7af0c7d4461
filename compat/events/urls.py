"""What the hub has beside its WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from compat.events import present
from compat.events.hub import UNSUBSCRIBE
from compat.events.messages import TYPES
from compat.wire.answers import answer
from compat.wire.endpoints import Endpoint, route
from orchestrator.refusals import Invalid
from orchestrator.web import wake

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class Unsubscribe(Endpoint):
    """POST: end subscriptions of one of the caller's own connections, whichever process has it."""

    def post(self, request: HttpRequest) -> HttpResponse:
        client_id = self.body.text("client_id", needed=True)
        try:
            client_id = str(UUID(client_id))
        except ValueError:
            raise Invalid("Invalid request body: client_id is none of ours.") from None
        types = [one for one in self.body.texts("event_types") if one in TYPES]
        wake.wake(f"{UNSUBSCRIBE}:{client_id}:{self.actor.user_id}:{','.join(types)}")
        return answer({"client_id": client_id, "event_types": types})


class Clients(Endpoint):
    """GET who is connected to the hub, with what they have subscribed to."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return answer(self.filtered(present.connected(self.actor)))


class Stats(Endpoint):
    """GET how many are connected, to what, and how much was sent to them."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return answer(present.counted(present.connected(self.actor)))


urlpatterns = [
    route("ws/unsubscribe", Unsubscribe, "unsubscribe"),
    route("ws/clients", Clients, "socket-clients"),
    route("ws/stats", Stats, "socket-stats"),
]
