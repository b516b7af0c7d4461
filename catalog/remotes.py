"""Other catalogs (“catalog managers”): logging in, and reading what they offer.

The wire is the contract's (2.1, 2.5). Answers are bounded and nothing forbidden is connected to.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx

from catalog import requirements
from catalog.manifests import BadManifest, Manifest, from_values
from catalog.storage import StorageError, Trouble
from catalog.storage.connections import Address, address_of
from catalog.storage.guard import ForbiddenAddress, httpx_client
from orchestrator.refusals import Conflict

if TYPE_CHECKING:
    from accounts.actors import Actor
    from catalog.models import CatalogSource

SECONDS = 5
MAXIMUM_ANSWER = 16 * 1024 * 1024
AT_ONCE = 2  # catalogs that are asked within requests, so that a slow one holds few threads

_places = threading.BoundedSemaphore(AT_ONCE)


def browse(
    actor: Actor, source: CatalogSource, *, catalog_id: str = "", version: str = ""
) -> list[Manifest]:
    """Return what another catalog offers to this actor, asking it now.

    Who manages images sees all; others what is open to their roles and claims. Raises `Forbidden`,
    or `Conflict` when the catalog is no other one, switched off, or does not answer.
    """
    actor.require("images.view")
    if source.is_storage:
        raise Conflict(f"{source.name} is a storage. Import from it instead.")
    if not source.active:
        raise Conflict(f"{source.name} is switched off. Switch it on first.")
    if not _places.acquire(blocking=False):
        raise Conflict("Other catalogs are being asked just now. Try again.", code="busy")
    try:
        found, _skipped = manifests_of(source)
    except StorageError as error:
        raise Conflict(f"{source.name}: {error.message}", code="catalog_failed") from error
    finally:
        _places.release()
    if catalog_id:
        found = [one for one in found if one.catalog_id.upper() == catalog_id.upper()]
    if version:
        found = [one for one in found if one.version == version]
    if actor.can("images.manage"):
        return found
    roles = requirements.roles_of(actor)
    claims = requirements.claims_of(actor, roles)
    return [
        one
        for one in found
        if requirements.are_met(one.required_roles, roles)
        and requirements.are_met(one.required_claims, claims)
    ]


def manifests_of(source: CatalogSource) -> tuple[list[Manifest], list[tuple[str, str]]]:
    """Return the manifests of another catalog, and what of them makes no sense and why.

    Raises `StorageError`.
    """
    try:
        address = address_of(source.connection)
    except ValueError as error:
        raise StorageError(Trouble.SETTINGS, str(error)) from None
    if address is None:
        raise StorageError(Trouble.SETTINGS, f"{source.name} names no catalog.")
    found: list[Manifest] = []
    skipped: list[tuple[str, str]] = []
    with _Client(address) as client:
        for group in _rows(client.get("/v1/catalog")):
            for rows in group.values():
                for values in _rows(rows):
                    try:
                        found.append(from_values(values))
                    except BadManifest as error:
                        skipped.append((str(values.get("name", "?"))[:200], str(error)))
    return found, skipped


def _rows(answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, list):
        raise StorageError(Trouble.FAILED, "The answer is none of a catalog. Check the address.")
    return [row for row in answer if isinstance(row, dict)]


class _Client:
    """A catalog that we are logged in to."""

    def __init__(self, address: Address) -> None:
        base = address.url if address.url.endswith("/api") else f"{address.url}/api"
        self._address = address
        self._base = base.removesuffix("/v1")
        self._http = httpx_client(timeout=SECONDS, headers={"Accept-Encoding": "identity"})
        self._headers: dict[str, str] = {}

    def __enter__(self) -> _Client:
        known = self._address
        if known.api_key:
            self._headers = {"X-Api-Key": known.api_key}
        elif known.username:
            name = "email" if "@" in known.username else "username"
            body = {name: known.username, "password": known.password}
            answer = self._ask("POST", "/v1/auth/token", json=body)
            token = answer.get("token") if isinstance(answer, dict) else None
            if not isinstance(token, str):
                raise StorageError(
                    Trouble.FAILED, "The answer is none of a catalog. Check the address."
                )
            self._headers = {"Authorization": f"Bearer {token}"}
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            with self._http.stream(
                method, self._base + path, headers=self._headers, **options
            ) as answer:
                body = bytearray()
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > MAXIMUM_ANSWER:
                        raise StorageError(Trouble.FAILED, "The catalog's answer is too large.")
        except ForbiddenAddress as error:
            raise StorageError(Trouble.FORBIDDEN_ADDRESS, str(error)) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise StorageError(Trouble.SETTINGS, "The catalog's address is none.") from None
        except httpx.HTTPError:
            raise StorageError(
                Trouble.AWAY, "The catalog does not answer. Check its address."
            ) from None
        if answer.status_code in (401, 403):
            raise StorageError(
                Trouble.CREDENTIALS, "The catalog does not accept the login of this source."
            )
        if answer.status_code >= 300:
            kind = Trouble.AWAY if answer.status_code >= 500 else Trouble.FAILED
            raise StorageError(kind, f"The catalog answered {answer.status_code}.")
        try:
            return httpx.Response(200, content=bytes(body)).json()
        except (ValueError, RecursionError):
            raise StorageError(
                Trouble.FAILED, "The answer is none of a catalog. Check the address."
            ) from None
