"""Other catalogs as “catalog managers”, and the storage that a connection string means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog import sources
from catalog.models import CatalogSource
from catalog.storage.connections import CLEAR, address_of, provider_of
from compat.catalog.shown import manager_out
from compat.wire.answers import answer, empty
from compat.wire.endpoints import Endpoint
from orchestrator.api.references import lookup
from orchestrator.refusals import Invalid, NotFound

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    from accounts.actors import Actor
    from compat.wire.bodies import Body


def _managers(actor: Actor) -> QuerySet[CatalogSource]:
    return CatalogSource.objects.visible_to(actor).filter(kind=CatalogSource.Kind.REMOTE)


def find_manager(actor: Actor, reference: str) -> CatalogSource:
    """Return the other catalog of an id or name. Raises `NotFound`."""
    found: CatalogSource | None = lookup(_managers(actor), reference)
    if found is None:
        raise NotFound(f"Catalog manager {reference} not found")
    return found


def storage_of_body(actor: Actor, body: Body) -> CatalogSource:
    """Return the catalog's storage that a body means by `connection` or `provider`.

    It is found by what is no secret of it, and used with the catalog's own credentials: those that
    a client sends are not looked at. Without either, the catalog's only storage. Raises `Invalid`.
    """
    storages = list(
        CatalogSource.objects.visible_to(actor).filter(kind=CatalogSource.Kind.STORAGE, active=True)
    )
    try:
        wanted = provider_of(body.text("connection"))
    except ValueError as error:
        raise Invalid.field("connection", str(error)) from None
    kind, options = (wanted.type, dict(wanted.options)) if wanted else ("", {})
    given = body.get("provider")
    if not kind and isinstance(given, dict):
        provider = body.inner("provider")
        kind = provider.text("type").lower()
        options = {name: provider.inner("meta").text(name) for name in CLEAR}
    told = {name: value for name, value in options.items() if name in CLEAR and value}
    meant = [one for one in storages if not kind or _is_meant(one, kind, told)]
    if len(meant) == 1:
        return meant[0]
    raise Invalid.field(
        "connection",
        "Name one of the catalog's storages by its provider and, for example, its bucket: "
        f"{len(meant)} of {len(storages)} are meant. An administrator adds storages as sources.",
    )


def _is_meant(source: CatalogSource, kind: str, told: dict[str, str]) -> bool:
    provider = provider_of(source.connection)
    return (
        provider is not None
        and provider.type == kind
        and all(provider.get(name) in ("", value) for name, value in told.items())
    )


class Managers(Endpoint):
    def get(self, request: HttpRequest) -> HttpResponse:
        rows = _managers(self.actor).order_by("name")
        return answer(self.filtered(manager_out(source) for source in rows))

    def post(self, request: HttpRequest) -> HttpResponse:
        source = sources.add_source(
            self.actor,
            name=self.body.text("name", needed=True),
            connection=_connection(self.body, self.body.text("url", needed=True)),
            active=not self.body.has("active") or self.body.flag("active"),
        )
        return answer(manager_out(source))


class OneManager(Endpoint):
    def get(self, request: HttpRequest, manager: str) -> HttpResponse:
        return answer(manager_out(find_manager(self.actor, manager)))

    def put(self, request: HttpRequest, manager: str) -> HttpResponse:
        """Change it. Who names another address gives the login again: ours goes nowhere else."""
        self.actor.require("images.manage")
        source = find_manager(self.actor, manager)
        before = address_of(source.connection)
        url = self.body.text("url") or (before.url if before else "")
        connection = None
        if self.body.has("username", "password", "api_key"):
            connection = _connection(self.body, url)
        elif not before or url.rstrip("/") != before.url:
            raise Invalid.field("password", "Give the login again for another address.")
        changed = sources.change_source(
            self.actor,
            source,
            name=self.body.text("name") or None,
            connection=connection,
            active=self.body.flag("active") if self.body.has("active") else None,
        )
        return answer(manager_out(changed))

    def delete(self, request: HttpRequest, manager: str) -> HttpResponse:
        self.actor.require("images.manage")
        sources.remove_source(self.actor, find_manager(self.actor, manager))
        return empty(200)


def _connection(body: Body, url: str) -> str:
    """Return the connection string of the catalog that a body describes. Raises `Invalid`."""
    if body.texts("required_claims"):
        raise Invalid.field(
            "required_claims",
            "Who sees images sees every catalog manager here. Require claims of its images.",
        )
    key, user, password = body.secret("api_key"), body.text("username"), body.secret("password")
    login = key or (f"{user}:{password}" if user else "")
    for name, text in (("url", url), ("username", user), ("password", password), ("api_key", key)):
        if ";" in text:
            raise Invalid.field(name, f"{name} may hold no semicolon.")
    return f"host={login}@{url}" if login else f"host={url}"
