from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts import key_pairs
from accounts.api.querysets import users_visible_to
from accounts.models import ApiToken
from accounts.tokens import revoke_token
from compat.identity.shapes import key_out
from compat.wire.answers import answer, empty
from compat.wire.endpoints import Endpoint
from orchestrator.api.references import lookup
from orchestrator.refusals import Invalid, NotFound

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse


class _Keys(Endpoint):
    """Key pairs. Revoked ones are gone from here; the console lists them still."""

    with_diagnostics = True

    def rows(self) -> QuerySet[ApiToken]:
        return (
            ApiToken.objects.visible_to(self.actor)
            .filter(key__isnull=False, revoked_at=None)
            .select_related("user")
        )

    def find(self, reference: str) -> ApiToken:
        """Return the key of an id, or of its key. Raises `NotFound`."""
        key: ApiToken | None = lookup(self.rows(), reference, name="key")
        if key is None:
            raise NotFound(f"There is no API key “{reference}”.")
        return key


class Keys(_Keys):
    def get(self, request: HttpRequest) -> HttpResponse:
        return answer(self.filtered(key_out(token) for token in self.rows().order_by("name", "pk")))

    def post(self, request: HttpRequest) -> HttpResponse:
        body = self.body
        user = None
        if reference := body.text("user_id"):
            user = lookup(users_visible_to(self.actor), reference, name="username")
            if user is None:
                raise Invalid.field("user_id", f"There is no user “{reference}”.")
        secret = body.secret("secret")
        token = key_pairs.create_key_pair(
            self.actor,
            name=body.text("name", needed=True),
            key=body.text("key", needed=True),
            secret=secret,
            scopes=body.texts("scopes") or ["admin"],
            user=user,
            expires_at=_moment(body.text("expires_at")),
        )
        return answer(key_out(token, key_pairs.encoded(token.key or "", secret)), 201)


class OneKey(_Keys):
    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        return answer(key_out(self.find(id)))

    def delete(self, request: HttpRequest, id: str) -> HttpResponse:
        revoke_token(self.actor, self.find(id))
        return empty()


class RevokeKey(_Keys):
    def put(self, request: HttpRequest, id: str) -> HttpResponse:
        revoke_token(self.actor, self.find(id))
        return empty()


def _moment(text: str) -> datetime | None:
    """Return an RFC 3339 time, UTC where it names no zone; raises `Invalid` for anything else.

    A key whose end cannot be read would otherwise live for ever.
    """
    if not text:
        return None
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise Invalid.field("expires_at", "Give the expiry as 2027-01-31T12:00:00Z.")
    return moment if timezone.is_aware(moment) else moment.replace(tzinfo=UTC)
