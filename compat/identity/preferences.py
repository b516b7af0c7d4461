from __future__ import annotations

from typing import TYPE_CHECKING

from accounts import preferences
from accounts.models import Preference
from compat.identity.shapes import preference_out
from compat.wire.answers import answer, empty
from compat.wire.endpoints import Endpoint

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class Preferences(Endpoint):
    with_diagnostics = True

    def get(self, request: HttpRequest) -> HttpResponse:
        rows = Preference.objects.filter(user=self.actor.user_id).order_by("slug")
        return answer(self.filtered(preference_out(row) for row in rows))

    def post(self, request: HttpRequest) -> HttpResponse:
        row, made = preferences.store(
            self.actor,
            slug=self.body.text("slug", needed=True),
            name=self.body.text("name"),
            kind=self.body.text("type"),
            value=self.body.get("value"),
        )
        return answer(preference_out(row), 201 if made else 200)


class OnePreference(Endpoint):
    """By slug or id. The console makes a slug only after a PUT has found none."""

    with_diagnostics = True

    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        return answer(preference_out(preferences.find(self.actor, id)))

    def put(self, request: HttpRequest, id: str) -> HttpResponse:
        row, _ = preferences.store(
            self.actor,
            slug=preferences.find(self.actor, id).slug,
            name=self.body.text("name"),
            kind=self.body.text("type"),
            value=self.body.get("value"),
        )
        return answer(preference_out(row))

    def delete(self, request: HttpRequest, id: str) -> HttpResponse:
        preferences.drop(self.actor, id)
        return empty()
