"""Who is on a socket: found by the credentials it came with, and looked at again each second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from django.conf import settings

from accounts.actors import Actor
from compat.authentication import identify, lets_in
from events.stream import Viewer
from orchestrator.addresses import of_client
from orchestrator.refusals import Refusal
from orchestrator.web.wire import header

if TYPE_CHECKING:
    from collections.abc import Collection

    from accounts.models import ApiToken, User
    from orchestrator.web.wire import Scope


@dataclass(frozen=True)
class Credentials:
    """What a socket was opened with: two headers, the token of the query, and from where.

    With `began_before` they are of a call that is held, and a token's time may be up since.
    """

    authorization: str
    api_key: str
    in_query: str
    address: str
    began_before: bool = False

    @classmethod
    def of(cls, scope: Scope, *, began_before: bool = False) -> Credentials:
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        in_query = asked.get("authorization") or asked.get("access_token") or [""]
        return cls(
            header(scope["headers"], b"authorization"),
            header(scope["headers"], b"x-api-key"),
            in_query[0],
            of_client((scope.get("client") or [""])[0]),
            began_before,
        )

    def who(self) -> tuple[User, ApiToken | None] | None:
        """Return the account behind them, and the token that narrows it; None for nobody."""
        try:
            return identify(
                self.authorization,
                self.api_key,
                self.in_query,
                address=self.address,
                began_before=self.began_before,
            )
        except Refusal:
            return None


@dataclass(eq=False)
class Watcher(Viewer):
    """Somebody on a socket. `who` is as of the last look."""

    credentials: Credentials = Credentials("", "", "", "")
    who: tuple[User, ApiToken | None] | None = None

    def actor(self) -> Actor:
        """Return the actor that this is, whose rights are read anew."""
        user, token = self.who or (None, None)
        return Actor(user=user, token=token, address=self.credentials.address)


class SocketGuard:
    """The guard of sockets, and with `began_before` of held calls (`events.stream.Guard`)."""

    def __init__(self, *, began_before: bool = False) -> None:
        self._began_before = began_before

    def identify(self, scope: Scope, *, tokens: bool) -> Watcher | None:
        credentials = Credentials.of(scope, began_before=self._began_before)
        who = credentials.who()
        if who is None:
            return None
        watcher = Watcher(who[0].pk, frozenset(), credentials=credentials, who=who)
        actor = watcher.actor()
        watcher.permissions = actor.permissions
        return watcher if lets_in(actor) else None

    def check(self, viewers: Collection[Viewer]) -> dict[Viewer, frozenset[str]]:
        """Return those that are still who they were. Costs a look for each credentials in use."""
        seen: dict[Credentials, tuple[User, ApiToken | None] | None] = {}
        live: dict[Viewer, frozenset[str]] = {}
        for viewer in viewers:
            assert isinstance(viewer, Watcher)
            if viewer.credentials not in seen:
                seen[viewer.credentials] = viewer.credentials.who()
            who = seen[viewer.credentials]
            if who and who[0].pk == viewer.user_id:
                viewer.who = who
                actor = viewer.actor()
                if lets_in(actor):
                    live[viewer] = actor.permissions
        return live


def is_own_origin(scope: Scope) -> bool:
    """Return whether no foreign page opened this socket."""
    origin = header(scope["headers"], b"origin")
    if not origin:
        return True  # no browser
    allowed = settings.COMPAT_CORS_ORIGINS
    if origin in allowed or "*" in allowed:
        return True
    return urlsplit(origin).netloc.lower() == header(scope["headers"], b"host").lower()
