"""Base classes of endpoints. A room says what is read and which domain function acts.

One class per URL; the bases bring one method each: `Lists`, `Shows`, `Posts`, `Patches`. A room's
view names its serializers and gives `rows()` and `perform()`, and has no rules in it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from django.db import transaction
from django.utils.http import parse_etags
from rest_framework.generics import GenericAPIView
from rest_framework.response import Response

from orchestrator.api import idempotency
from orchestrator.api.errors import StaleCopy
from orchestrator.api.negotiation import JsonBody
from orchestrator.api.pagination import NewestFirst
from orchestrator.api.serializers import Nothing
from orchestrator.db.locks import go_first
from orchestrator.refusals import Conflict, NotFound

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models import Model, QuerySet
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer

    from orchestrator.api.serializers import Input


class Caller(Protocol):
    """What the bases need of `accounts.actors.Actor`, which they must not import."""

    @property
    def user_id(self) -> UUID | None: ...

    def require(self, permission: str) -> None: ...


class ApiView(GenericAPIView[Any]):
    """An endpoint of `/api/v2/`.

    `tag` is its noun in the docs, `model` the room's model, `output` what one object looks like.
    """

    tag: ClassVar[str]
    model: ClassVar[type[Model]]
    output: Any  # a serializer class; views that inherit from one another change it
    docs: ClassVar[dict[str, str]] = {}  # by method, for the schema
    query: ClassVar[dict[str, list[Any]]] = {}  # parameters by method, for the schema
    parser_classes = [JsonBody]
    metadata_class = None
    pagination_class: Any = None
    filter_backends: Any = []
    lookup_field = "pk"
    lookup_url_kwarg = "id"

    @property
    def actor(self) -> Any:
        """Return who asks, as the authentication class found out."""
        return self.request.actor  # type: ignore[attr-defined]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Read now: within Django's limit of size, and kept for the idempotency digest.
        _ = request._request.body

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers.setdefault("Cache-Control", "no-store")  # rights change at any moment
        return response

    def rows(self) -> QuerySet[Any]:
        """Return what the actor may see of `model`. Everything else is absent."""
        raise NotImplementedError(f"{type(self).__name__}.rows")

    def get_queryset(self) -> QuerySet[Any]:
        if getattr(self, "swagger_fake_view", False):
            return self.model._default_manager.none()
        return self.rows()

    def target(self) -> Any:
        """Return the object that the URL names; raises `NotFound` when the actor sees none."""
        return self.find(self.kwargs[self.lookup_url_kwarg], self.get_queryset())

    def find(self, pk: Any, rows: QuerySet[Any]) -> Any:
        found = rows.filter(pk=pk).first()
        if found is None:
            raise NotFound(f"There is no such {rows.model._meta.verbose_name}.")
        return found

    def represent(self, thing: Any, **options: Any) -> Any:
        return self.output(thing, context=self.get_serializer_context(), **options).data

    def read_body(self, serializer_class: type[Input], *, partial: bool = False) -> dict[str, Any]:
        """Return the checked body. Raises DRF's `ValidationError`."""
        serializer = serializer_class(
            data=self.request.data, partial=partial, context=self.get_serializer_context()
        )
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return self.output

    def location(self, thing: Any) -> str:
        """Return the URL of an object that the collection at this URL has made."""
        path = self.request.path.rstrip("/")
        return self.request.build_absolute_uri(f"{path}/{thing.pk}/")


class Lists(ApiView):
    """GET: a page of `rows()`, narrowed by `filterset_class`."""

    pagination_class: Any = NewestFirst
    filterset_class: ClassVar[Any] = None

    @property
    def filter_backends(self) -> Any:  # type: ignore[override]
        from django_filters.rest_framework import DjangoFilterBackend

        return [DjangoFilterBackend] if self.filterset_class else []

    def get(self, request: Request, **kwargs: Any) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.represent(page, many=True))


class Shows(ApiView):
    """GET: the object of the URL. Where it can be changed, with the tag for `If-Match`."""

    def get(self, request: Request, **kwargs: Any) -> Response:
        return self.show(self.target())

    def show(self, thing: Any) -> Response:
        body = self.represent(thing)
        headers = {"ETag": etag(body, self.changes)} if isinstance(self, Patches) else None
        return Response(body, headers=headers)


class Posts(ApiView):
    """POST: makes something, or acts; with a key, once.

    `prepare()` may wait for a host and runs outside any transaction; `perform()` calls the domain
    function. With an `Idempotency-Key` the transaction of the effect also holds the key's row.
    """

    input: ClassVar[type[Input]] = Nothing
    status: ClassVar[int] = 201
    # Answers hold a secret that is kept nowhere, so they cannot be given again.
    shown_once: ClassVar[bool] = False
    # What a replay needs again; the domain function checks the first time.
    permission: ClassVar[str] = ""

    def prepare(self, data: dict[str, Any]) -> dict[str, Any]:
        """Do what must wait for others, before any transaction."""
        return data

    def perform(self, data: dict[str, Any]) -> Any:
        """Call the domain function and return the object to answer with."""
        raise NotImplementedError(f"{type(self).__name__}.perform")

    def results(self) -> QuerySet[Any]:
        """Return where `perform()`'s object is found again by a replay."""
        return self.get_queryset()

    def check_replay(self) -> None:
        """Raise the refusal of an actor who could not ask this any more."""
        if self.permission:
            self.actor.require(self.permission)

    def post(self, request: Request, **kwargs: Any) -> Response:
        key = idempotency.keyed(request, self.actor.user_id)
        if key is None:
            return self.answer(self.perform(self.prepare(self.read_body(self.input))))
        row = idempotency.remembered(key)
        if row is None:
            data = self.prepare(self.read_body(self.input))
            made, row = idempotency.once(key, self.status, lambda: self.perform(data), name_of)
            if row is None:
                return self.answer(made)
        if self.shown_once:
            raise Conflict(
                "This was done, and its secret was shown, once. Revoke what was made and ask "
                "again with a new key.",
                code="shown_once",
            )
        self.check_replay()
        response = self.answer(self.find(row.subject.partition(":")[2], self.results()))
        response.status_code = row.status
        response["Idempotent-Replayed"] = "true"
        return response

    def answer(self, thing: Any) -> Response:
        """Return the answer that shows `thing`."""
        response = Response(self.represent(thing), status=self.status)
        if self.status == 201:
            response["Location"] = self.location(thing)
        return response


class Patches(ApiView):
    """PATCH: changes some fields of the object, if it is still the one that `If-Match` means."""

    changes: ClassVar[type[Input]]
    # It may revoke something, for which it must go first, before the row is locked.
    revokes: ClassVar[bool] = False

    def change(self, thing: Any, data: dict[str, Any]) -> Any:
        """Call the domain function."""
        raise NotImplementedError(f"{type(self).__name__}.change")

    def waits_for_others(self, data: dict[str, Any]) -> bool:
        """Return whether `change()` calls a host first, so that no lock may be held meanwhile."""
        return False

    def patch(self, request: Request, **kwargs: Any) -> Response:
        thing = self.target()
        wanted = request.headers.get("If-Match")
        data = self.read_body(self.changes, partial=True)
        if wanted is None:
            self.change(thing, data)
        elif self.waits_for_others(data):
            self._match(wanted, thing)
            self.change(thing, data)
        else:
            # The lock makes "read, compare, change" one thing for those who send `If-Match`.
            with transaction.atomic():
                if self.revokes:
                    go_first()
                self.model._default_manager.select_for_update().filter(pk=thing.pk).first()
                self._match(wanted, self.target())
                self.change(thing, data)
        body = self.represent(self.target())
        return Response(body, headers={"ETag": etag(body, self.changes)})

    def _match(self, wanted: str, thing: Any) -> None:
        tags = [tag.removeprefix("W/") for tag in parse_etags(wanted)]
        current = etag(self.represent(thing), self.changes).removeprefix("W/")
        if "*" not in tags and current not in tags:
            raise StaleCopy(
                "Somebody changed this since you read it. Read it again and repeat your change."
            )


def etag(body: dict[str, Any], changes: type[Input]) -> str:
    """Return a weak tag over what a PATCH can change; what is observed does not count."""
    editable = {name: body[name] for name in map(str, changes().fields) if name in body}
    text = json.dumps(editable, sort_keys=True, default=str)
    return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def name_of(thing: Model) -> str:
    """Return the name by which a key's row remembers an object."""
    return f"{thing._meta.model_name}:{thing.pk}"
