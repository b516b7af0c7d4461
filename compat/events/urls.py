"""What the hub has beside its WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from compat.events.hub import UNSUBSCRIBE
from compat.events.messages import TYPES
from compat.wire.answers import answer
from compat.wire.endpoints import Endpoint, Refused, route
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


_CLIENTS = "Who else is connected is not told. Read /metrics for how many there are."

urlpatterns = [
    route("ws/unsubscribe", Unsubscribe, "unsubscribe"),
    route("ws/clients", Refused, "socket-clients", why=_CLIENTS),
    route("ws/stats", Refused, "socket-stats", why=_CLIENTS),
]
