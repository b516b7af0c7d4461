"""What views of the console share: who may come in, partial or page, forms, refusals, paging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import structlog
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from orchestrator.refusals import NotFound, Refusal, refuses_right

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.forms import BaseForm
    from django.http import QueryDict
    from django_htmx.middleware import HtmxDetails

    class PageRequest(HttpRequest):
        """A request of the console, as middleware leaves it."""

        actor: Any  # an `accounts.actors.Actor`; this room may not import that one
        htmx: HtmxDetails


log = structlog.get_logger(__name__)
Row = TypeVar("Row")
Result = TypeVar("Result")
View = Callable[..., HttpResponse]

PAGE_SIZE = 50
# What a finished dialog asks of static/js/console.js: close, and refresh what is live.
DONE_TRIGGER = "console:done"


# Who may come in --------------------------------------------------------------------------------


def page(view: View) -> View:
    """Let signed-in people in only, and show a refusal (`orchestrator.refusals`) as it says.

    A refusal becomes a page with its sentence and status, or a toast for htmx. One of a right (see
    `refuses_right`) is told to `request.on_refusal(request, refusal)`, if a middleware left that.
    """

    @wraps(view)
    def wrapped(request: PageRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return to_login(request)
        try:
            return view(request, *args, **kwargs)
        except Refusal as refusal:
            return refused(request, refusal)
        except Http404:
            _tell_refused(request, NotFound("There is nothing here."))
            raise

    return wrapped


def to_login(request: PageRequest) -> HttpResponse:
    """Send a stranger to the sign-in page, and from there back to where they are."""
    came_from = request.get_full_path() if request.method == "GET" else ""
    if request.htmx:
        came_from = request.htmx.current_url_abs_path or "/"
    query = f"?{urlencode({'next': came_from})}" if came_from not in ("", "/") else ""
    url = resolve_url(settings.LOGIN_URL) + query
    if request.htmx:
        return HttpResponse(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": url})
    return HttpResponseRedirect(url)


# Partial or page --------------------------------------------------------------------------------


def wants_part(request: PageRequest) -> bool:
    """Return whether htmx asks for a part of a page, not for the whole one to go back to."""
    return bool(request.htmx and not request.htmx.history_restore_request)


def render(
    request: PageRequest,
    template: str,
    context: dict[str, Any] | None = None,
    *,
    partial: str = "",
    status: int = HTTPStatus.OK,
) -> HttpResponse:
    """Render the page, or for htmx only its `partial`, with waiting messages as toasts."""
    refusal = getattr((context or {}).get("form"), "refusal", None)
    if refusal:
        _tell_refused(request, refusal)
    part = wants_part(request) and partial
    body: str = render_to_string(f"{template}#{partial}" if part else template, context, request)
    if part:
        body += toasts(request)
    response = HttpResponse(body, status=status)
    patch_vary_headers(response, ["HX-Request"])
    if not part:
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def toasts(request: HttpRequest) -> str:
    """Return the waiting messages as a part of an answer to htmx; empty without any."""
    waiting = list(messages.get_messages(request))
    if not waiting:
        return ""
    return render_to_string("partials/toasts.html", {"notes": waiting}, request)


def done(request: PageRequest, url: str, text: str = "") -> HttpResponse:
    """Tell that it is done and go to `url`.

    htmx on that page already: its dialog closes, its live parts refresh and a toast tells.
    """
    if text:
        messages.success(request, text)
    if not wants_part(request):
        return HttpResponseRedirect(url, status=HTTPStatus.SEE_OTHER)
    here = urlsplit(request.htmx.current_url_abs_path or "").path
    if here != urlsplit(url).path:
        return HttpResponse(headers={"HX-Redirect": url})
    return HttpResponse(toasts(request), headers={"HX-Reswap": "none", "HX-Trigger": DONE_TRIGGER})


# Forms and refusals -----------------------------------------------------------------------------


def posted(request: HttpRequest) -> QueryDict | None:
    """Return what a form is bound to: what was posted, even nothing; None for a GET."""
    return request.POST if request.method == "POST" else None


def accepted(form: BaseForm, verb: Callable[[dict[str, Any]], Result]) -> Result | None:
    """Call `verb` with the form's values if they are valid; put a refusal into the form.

    Returns what the verb returns, or None when the form has to be shown again: then
    `status_of(form)` is the answer's status.
    """
    if not form.is_valid():
        return None
    try:
        return verb(form.cleaned_data)
    except Refusal as refusal:
        put_into(form, refusal)
        return None


def dialog(
    request: PageRequest,
    template: str,
    form: BaseForm,
    act: Callable[[dict[str, Any]], Any],
    *,
    back: str | Callable[[Any], str],
    told: str,
    **context: Any,
) -> HttpResponse:
    """Show a form (the partial `form` of `template`), or act on it, tell so and go `back`.

    `act` is as in `accepted`; `back` may be made of what it returns, which must not be empty. The
    template has `form`, `back` unless that is still to be made, and the `context`.
    """
    if result := accepted(form, act):
        return done(request, back(result) if callable(back) else back, told)
    shown = {"form": form, "back": "" if callable(back) else back, **context}
    return render(request, template, shown, partial="form", status=status_of(form))


def put_into(form: BaseForm, refusal: Refusal) -> None:
    """Show `refusal` at the fields that it names, else on top of the form."""
    form.refusal = refusal  # type: ignore[attr-defined]
    placed = False
    for name, texts in refusal.errors.items():
        placed = True
        for text in texts:
            form.add_error(name if name in form.fields else None, text)
    if not placed:
        form.add_error(None, refusal.message)


def status_of(form: BaseForm) -> int:
    """Return 200 for a form that is fine, else the status of its refusal, else 422."""
    if not form.errors:
        return HTTPStatus.OK
    refusal: Refusal | None = getattr(form, "refusal", None)
    return refusal.status if refusal else HTTPStatus.UNPROCESSABLE_ENTITY


def refused(request: PageRequest, refusal: Refusal) -> HttpResponse:
    """Show a refusal: a page with its sentence; for htmx a toast, and the page stays as it is."""
    _tell_refused(request, refusal)
    return sentence(request, refusal.status, refusal.title, refusal.message)


def _tell_refused(request: PageRequest, refusal: Refusal) -> None:
    on_refusal = getattr(request, "on_refusal", None)
    if on_refusal is None or not refuses_right(refusal.status, request.method or ""):
        return
    try:
        on_refusal(request, refusal)
    except Exception:  # the reader gets the refusal in any case
        log.exception("pages.refusal_not_audited", code=refusal.code)


def sentence(request: PageRequest, status: int, title: str, detail: str) -> HttpResponse:
    """Answer with one sentence: as a page, or as a toast for htmx (`errors/refusal.html`)."""
    context = {"status": status, "title": title, "detail": detail}
    body = render_to_string("errors/refusal.html", context, request)
    return HttpResponse(body, status=status, headers={"Cache-Control": "no-store"})


# Paging -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slice(Generic[Row]):
    """Some rows of a list that is ordered newest first by id; `older` is where the next begin."""

    rows: list[Row]
    older: UUID | None
    is_first: bool

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def newest_first(request: HttpRequest, rows: QuerySet[Any], size: int = PAGE_SIZE) -> Slice[Any]:
    """Return the rows before `?before=<id>`, newest first: one query, none skipped or repeated."""
    before = request.GET.get("before", "")
    try:
        start = UUID(before) if before else None
    except ValueError:
        raise Http404("There is no such page.") from None
    rows = rows.order_by("-pk")
    if start:
        rows = rows.filter(pk__lt=start)
    found = list(rows[: size + 1])
    more = len(found) > size
    found = found[:size]
    return Slice(found, found[-1].pk if more else None, start is None)


def came_from(request: HttpRequest, default: str = "/") -> str:
    """Return the path of this site that a form names in `next`, else `default`."""
    url = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(url, allowed_hosts=None) and url.startswith("/"):
        return url
    return default
