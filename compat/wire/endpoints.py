"""The base of every endpoint: who asks, what it may raise, how that goes out."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import structlog
from django.db import transaction
from django.http import HttpResponse
from django.urls import URLPattern, path
from django.views import View

from accounts.audit import audit
from compat.authentication import authenticate, stranger
from compat.wire import bodies, filters
from compat.wire.answers import empty
from compat.wire.errors import NotOffered, refusal
from compat.wire.paths import PREFIX
from orchestrator.refusals import Forbidden, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest

    from accounts.actors import Actor
    from compat.wire.bodies import Body

log = structlog.get_logger(__name__)


class Endpoint(View):
    """A path of the API. A method named after an HTTP method answers it.

    Such a method calls a domain function as `self.actor` and returns `answer(…)` or `empty()`; it
    may raise any `Refusal`. `self.body` holds the fields of the request, read when they are first
    asked for: an endpoint that does not ask for them takes any body, junk included.
    """

    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    public: ClassVar[tuple[str, ...]] = ()  # methods that anybody may call, in lower case
    with_diagnostics: ClassVar[bool] = False  # errors in the second shape: accounts and the like
    token_in_query: ClassVar[bool] = False  # only where a client cannot send headers

    actor: Actor

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., Any]:
        view = super().as_view(**initkwargs)
        view.csrf_exempt = True  # type: ignore[attr-defined]  # cookies are no credentials here
        return view

    @cached_property
    def body(self) -> Body:
        """The fields of the request. Raises `Invalid`."""
        return bodies.read(self.request)

    def authenticate(self) -> None:
        """Find out who asks, for `actor`. Of a public method only if it wants to know."""
        authenticate(self.actor, self.request, token_in_query=self.token_in_query)

    @property
    def operation(self) -> str:
        """The path below the version, as errors name it."""
        return self.request.path.removeprefix(PREFIX)

    def filtered(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return what `X-Filter` lets through of a list's rows, in the form they go out."""
        return filters.filtered(rows, self.request.headers.get("X-Filter"))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.actor = stranger(request)
        method = (request.method or "").lower()
        try:
            handler = getattr(self, method, None) if method in self.http_method_names else None
            if handler is None:
                return self.http_method_not_allowed(request)
            if method not in self.public:
                self.authenticate()
            request.actor = self.actor  # type: ignore[attr-defined]
            if any("\0" in str(value) for value in kwargs.values()):
                raise NotFound("There is nothing of this name.")
            response: HttpResponse = handler(request, *args, **kwargs)
        except Exception as error:
            if isinstance(error, Forbidden):
                self._audit_refusal(error)
            response = refusal(error, self.operation, with_diagnostics=self.with_diagnostics)
        response.headers.setdefault("Cache-Control", "no-store")  # rights change at any moment
        return response

    def http_method_not_allowed(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        response = empty(405)
        response["Allow"] = ", ".join(m.upper() for m in self.http_method_names if hasattr(self, m))
        return response

    def _audit_refusal(self, refused: Forbidden) -> None:
        """Record who was refused what, after the rollback of the verb's transaction."""
        match = self.request.resolver_match
        try:
            with transaction.atomic():
                audit(
                    self.actor,
                    f"compat.{match.url_name if match else ''}.{self.request.method}".lower()[:60],
                    f"api:{self.operation}"[:80],
                    data={"code": refused.code, "reason": refused.message},
                    refused=True,
                )
        except Exception:  # the caller gets the refusal in any case
            log.exception("compat.refusal_not_audited", code=refused.code)


def route(spelling: str, view: type[Endpoint], name: str, **options: Any) -> URLPattern:
    """Return the route of an endpoint, relative to `/api/v1/`. Reversed as `compat:<name>`."""
    return path(spelling, view.as_view(**options), name=name)


class Refused(Endpoint):
    """A call of the contract that is not offered; `why` says why, and what to do instead."""

    why = ""

    def _refuse(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        raise NotOffered(self.why)

    get = post = put = patch = delete = _refuse


class Nothing(Endpoint):
    """What is no path of this API. Strangers are told so as well."""

    public = ("get", "head", "post", "put", "patch", "delete")

    def _refuse(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        raise NotFound(f"resource {request.path} not found")

    get = post = put = patch = delete = _refuse
