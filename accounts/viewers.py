"""Who watches a stream: found by session or token, and checked again each second."""

from __future__ import annotations

from collections import defaultdict
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.actors import Actor
from accounts.audit import audit
from accounts.models import ApiToken, Role, User
from accounts.permissions import PERMISSIONS
from accounts.restrictions import WrongNetwork
from accounts.tokens import find_live, note_use
from events.stream import Viewer
from orchestrator.addresses import of_client
from orchestrator.web.wire import header

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from orchestrator.web.wire import Scope


class Viewers:
    """The guard of the streams (`events.stream.Guard`)."""

    def identify(self, scope: Scope, *, tokens: bool) -> Viewer | None:
        """Return the viewer behind a token (if `tokens`) or a session cookie, else None.

        A request that brings an `Authorization` header is judged by that alone.
        """
        authorization = header(scope["headers"], b"authorization")
        if tokens and authorization:
            viewer = _by_token(authorization, of_client((scope.get("client") or ("",))[0]))
        else:
            viewer = _by_session(header(scope["headers"], b"cookie"))
        if not viewer:
            return None
        live = self.check([viewer])
        if viewer not in live:
            return None
        viewer.permissions = live[viewer]
        return viewer

    def check(self, viewers: Collection[Viewer]) -> dict[Viewer, frozenset[str]]:
        """Return the viewers whose account and session or token are still live, with their rights.

        Costs four queries, however many there are.
        """
        user_ids = {viewer.user_id for viewer in viewers}
        users = {user.pk: user for user in User.objects.filter(pk__in=user_ids, is_active=True)}
        tokens = {
            token.pk: token
            for token in ApiToken.objects.live().filter(pk__in={v.token_id for v in viewers})
        }
        sessions = _live_sessions({viewer.session for viewer in viewers if viewer.session})
        granted: dict[UUID, set[str]] = defaultdict(set)
        for user_id, codes in Role.objects.filter(group__user__in=user_ids).values_list(
            "group__user", "permissions"
        ):
            granted[user_id].update(codes)
        live = {}
        for viewer in viewers:
            user = users.get(viewer.user_id)
            token = tokens.get(viewer.token_id) if viewer.token_id else None
            if user is None:
                continue
            if viewer.token_id and not (token and token.answers_to(viewer.secret_id)):
                continue
            if not viewer.token_id and not (
                viewer.session in sessions
                # A changed password ends the sessions that were made with the old one.
                and constant_time_compare(viewer.session_hash, user.get_session_auth_hash())
            ):
                continue
            actor = Actor(user, token)
            live[viewer] = frozenset(
                code
                for code in granted[user.pk] & PERMISSIONS.keys()
                if actor.in_scope(PERMISSIONS[code].noun)
            )
        return live


def _by_token(authorization: str, address: str) -> Viewer | None:
    kind, _, text = authorization.partition(" ")
    if kind.lower() != "bearer":
        return None
    try:
        token = find_live(text.strip(), address)
    except WrongNetwork as refusal:
        _audit_refusal(refusal, address)
        return None
    if token is None:
        return None
    note_use(token, address)
    return Viewer(token.user_id, frozenset(), token_id=token.pk, secret_id=token.used_id)


def _audit_refusal(refusal: WrongNetwork, address: str) -> None:
    actor = Actor(refusal.token.user, refusal.token, address)
    data = {"code": refusal.code, "reason": refusal.message}
    with transaction.atomic():
        audit(actor, "events.follow", "event:", data=data, refused=True)


def _by_session(cookies: str) -> Viewer | None:
    try:
        morsel = SimpleCookie(cookies).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return None
    if morsel is None:
        return None
    session = import_module(settings.SESSION_ENGINE).SessionStore(morsel.value)
    stored = session.load()
    if not stored.get(SESSION_KEY) or stored.get(BACKEND_SESSION_KEY) not in (
        settings.AUTHENTICATION_BACKENDS
    ):
        return None
    user_id = User._meta.pk.to_python(stored[SESSION_KEY])
    return Viewer(
        user_id,
        frozenset(),
        session=morsel.value,
        session_hash=stored.get(HASH_SESSION_KEY, ""),
    )


def _live_sessions(keys: set[str]) -> set[str]:
    if not keys:
        return set()
    store = import_module(settings.SESSION_ENGINE).SessionStore
    return set(
        store.get_model_class()
        .objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
        .values_list("session_key", flat=True)
    )
