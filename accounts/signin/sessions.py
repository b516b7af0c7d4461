"""The sessions of people: which there are, and how they end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from allauth.usersessions.models import UserSession
from django.contrib.auth import update_session_auth_hash
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts.audit import audit
from accounts.models import User
from orchestrator.addresses import of_client
from orchestrator.db.ids import uuid7
from orchestrator.refusals import Forbidden, NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest

    from accounts.actors import Actor

NOTE_SECONDS = 60
NOTED = "orchestrator_seen_at"
AGENT_LENGTH = 200
# The first mark that is there tells: browsers claim to be those before them.
BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS = (
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True)
class Opened:
    """A browser that is signed in."""

    id: UUID
    address: str
    browser: str
    method: str  # “password, authenticator”; empty for one from before this was kept
    began_at: datetime
    last_seen_at: datetime
    is_current: bool = False

    @property
    def browser_name(self) -> str:
        """Return what people call it, as far as it can be told: “Firefox on Windows”."""
        names = [
            next((name for mark, name in known if mark in self.browser), "")
            for known in (BROWSERS, SYSTEMS)
        ]
        return " on ".join(name for name in names if name) or self.browser


def remember(request: HttpRequest, user: User, method: str) -> None:
    """Keep how the session of this request was begun."""
    request.session[NOTED] = time.time()
    UserSession.objects.filter(session_key=request.session.session_key, user=user).update(
        data={"id": str(uuid7()), "method": method}
    )


def note_use(request: HttpRequest) -> None:
    """Keep when and from where the session was used, at most once a minute."""
    now = time.time()
    if now - request.session.get(NOTED, 0) < NOTE_SECONDS:
        return
    request.session[NOTED] = now
    address = of_client(request.META.get("REMOTE_ADDR", ""))
    UserSession.objects.filter(session_key=request.session.session_key).update(
        last_seen_at=timezone.now(),
        user_agent=request.META.get("HTTP_USER_AGENT", "")[:AGENT_LENGTH],
        **({"ip": address} if address else {}),  # a proxy may tell what is no address
    )


def sessions_of(actor: Actor, user: User, current: str | None = None) -> list[Opened]:
    """Return the live sessions of an account, newest first. Others' need `accounts.view`."""
    if user.pk != actor.user_id and not actor.can("accounts.view"):
        raise NotFound("There is no such account.")
    return [_opened(row, current) for row in _live(user)]


def end_session(actor: Actor, user: User, id: UUID) -> None:
    """End one session: its next request is a stranger's, and its streams close.

    Raises `Forbidden` for somebody else's without `accounts.manage`, and `NotFound`.
    """
    _allow(actor, user)
    row = next((row for row in _live(user) if _id_of(row) == id), None)
    if row is None:
        raise NotFound("There is no such session. It may have ended meanwhile.")
    with transaction.atomic():
        Session.objects.filter(session_key=row.session_key).delete()
        row.delete()
        audit(
            actor,
            "session.ended",
            f"user:{user.pk}",
            user.username,
            data={"address": row.ip, "began_at": row.created_at.isoformat()},
        )


def sign_out_everywhere(actor: Actor, user: User, request: HttpRequest | None = None) -> int:
    """End all sessions of an account; return how many were known.

    One's own session goes on when its `request` is given. Raises `Forbidden` for somebody else
    without `accounts.manage`.
    """
    _allow(actor, user)
    with transaction.atomic():
        ended = UserSession.objects.filter(user=user)
        if request is not None:
            ended = ended.exclude(session_key=request.session.session_key)
        keys = list(ended.values_list("session_key", flat=True))
        User.objects.filter(pk=user.pk).update(session_epoch=F("session_epoch") + 1)
        user.refresh_from_db(fields=["session_epoch"])
        Session.objects.filter(session_key__in=keys).delete()
        UserSession.objects.filter(session_key__in=keys).delete()
        audit(
            actor,
            "user.signed_out",
            f"user:{user.pk}",
            user.username,
            data={"sessions": len(keys), "but_this_one": request is not None},
        )
        if request is not None:
            before = request.session.session_key
            update_session_auth_hash(request, user)
            UserSession.objects.filter(session_key=before).update(
                session_key=request.session.session_key
            )
    return len(keys)


def _allow(actor: Actor, user: User) -> None:
    if user.pk != actor.user_id:
        actor.require("accounts.manage")
    elif actor.token is not None and not actor.in_scope("admin"):
        raise Forbidden("This token may not end sessions. Use one with the scope “admin”.")


def _live(user: User) -> list[Any]:
    rows = UserSession.objects.purge_and_list(user)
    return sorted(rows, key=lambda row: row.created_at, reverse=True)


def _id_of(row: Any) -> UUID:
    """Return what a session is named by outside: its key must not be seen, its number says much."""
    if "id" not in row.data:
        row.data = {**row.data, "id": str(uuid7())}
        row.save(update_fields=["data"])
    return UUID(row.data["id"])


def _opened(row: Any, current: str | None) -> Opened:
    return Opened(
        id=_id_of(row),
        address=row.ip,
        browser=row.user_agent,
        method=row.data.get("method", ""),
        began_at=row.created_at,
        last_seen_at=row.last_seen_at,
        is_current=row.session_key == current,
    )
