from __future__ import annotations

from typing import TYPE_CHECKING

from accounts import access_tokens
from accounts.key_pairs import find_live_pair
from compat.authentication import BAD_KEY, BAD_TOKEN
from compat.wire.answers import answer
from compat.wire.endpoints import Endpoint
from compat.wire.errors import Unauthorized
from orchestrator.refusals import Invalid

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.models import ApiToken


class Token(Endpoint):
    """Logs in with a password, or exchanges an API key. Every tool but the keys' begins here."""

    public = ("post",)
    with_diagnostics = True

    def post(self, request: HttpRequest) -> HttpResponse:
        key: ApiToken | None
        if given := self.body.text("api_key"):
            key = find_live_pair(given, self.actor.address)
            if key is None:
                raise Unauthorized(BAD_KEY)
            user = key.user
        else:
            login = self.body.text("email") or self.body.text("username")
            password = self.body.secret("password")
            if not login or not password:
                raise Invalid("Invalid request body: email or username, and password are needed.")
            user, key = access_tokens.log_in(request, self.actor, login, password)
        token, expires_at = access_tokens.issue(self.actor, user, key)
        return answer(
            {"email": user.email or user.username, "token": token, "expires_at": expires_at}
        )


class Validate(Endpoint):
    public = ("post",)
    with_diagnostics = True

    def post(self, request: HttpRequest) -> HttpResponse:
        if not access_tokens.read(self.body.text("token", needed=True), self.actor.address):
            raise Unauthorized(BAD_TOKEN)
        return answer({"valid": True})
