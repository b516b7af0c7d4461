"""Pages of tokens that name templates: a new one, and what one is narrowed to."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import key_pairs, token_changes, tokens
from accounts.api.querysets import users_visible_to
from accounts.models import ApiToken, User
from accounts.token_forms import TokenChangesForm, TokenForm
from orchestrator.web import names, pages
from vms.models import Template

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from accounts.revocation import Hit
    from orchestrator.web.pages import PageRequest

TEMPLATE_CHOICES = 500


def _templates(request: PageRequest) -> list[tuple[UUID | str, str]]:
    rows = Template.objects.visible_to(request.actor).live().order_by("name")
    return list(rows.values_list("pk", "name")[:TEMPLATE_CHOICES])


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def create(request: PageRequest) -> HttpResponse:
    """Make a token; its clear text is on the answer to the form, and nowhere else, ever."""
    actor = request.actor
    owners = (
        users_visible_to(actor)
        .filter(is_active=True)
        .exclude(pk=actor.user_id)
        .order_by("username")
        if actor.can("accounts.manage")
        else User.objects.none()
    )
    form = TokenForm(
        pages.posted(request),
        initial={"user": request.GET.get("user")},
        owners=owners,
        templates=_templates(request),
    )

    def make(data: dict[str, Any]) -> ApiToken:
        given: dict[str, Any] = {
            "name": data["name"],
            "scopes": data["scopes"],
            "user": data.get("user"),
            "templates": data.get("templates"),
            "networks": data["networks"],
            "maximum_vms": data["maximum_vms"],
            "expires_at": form.expires_at(),
        }
        if not data["key"]:
            token, token_text = tokens.create_token(actor, **given)
            token.clear_text = token_text
            return token
        secret = data["secret"] or key_pairs.new_secret()
        token = key_pairs.create_key_pair(actor, key=data["key"], secret=secret, **given)
        token.clear_secret = secret
        token.clear_text = key_pairs.encoded(token.key or "", secret)
        return token

    context: dict[str, Any] = {"form": form, "back": reverse("accounts:tokens")}
    if request.method == "POST" and (made := pages.accepted(form, make)):
        context["token"] = made
        path = "/api/v1/orchestrator/machines" if made.key else "/api/v2/vms/"
        context["api_url"] = request.build_absolute_uri(path)
    return pages.render(request, "console/token_form.html", context, status=pages.status_of(form))


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def change(request: PageRequest, id: UUID) -> HttpResponse:
    """Change what a token is narrowed to, after showing what that hits."""
    actor = request.actor
    token = get_object_or_404(ApiToken.objects.visible_to(actor).select_related("user"), pk=id)
    tokens.require_manage(actor, token)
    back = reverse("accounts:token", args=[token.pk])
    form = TokenChangesForm(
        pages.posted(request),
        initial={
            "scopes": token.scopes,
            "templates": token.templates or [],
            "networks": ", ".join(token.networks or []),
            "maximum_vms": token.maximum_vms,
            "expires_in": TokenChangesForm.SAME,
            "running_vms": "keep",
        },
        templates=_with_own(_templates(request), token),
        expires_at=token.expires_at,
    )
    hits: list[Hit] = []

    def act(data: dict[str, Any]) -> bool:
        changes = form.changes()
        hits[:] = token_changes.preview(token, **changes)
        if hits and request.POST.get("seen") != _mark(hits):
            return False
        token_changes.change_token(actor, token, running_vms=data["running_vms"], **changes)
        return True

    if request.method == "POST" and pages.accepted(form, act):
        return pages.done(request, back, f"“{token.name}” was changed. It counts from now on.")
    context = {"form": form, "token": token, "back": back, "hits": hits, "seen": _mark(hits)}
    return pages.render(request, "console/token_change.html", context, status=pages.status_of(form))


def _with_own(
    choices: list[tuple[UUID | str, str]], token: ApiToken
) -> list[tuple[UUID | str, str]]:
    """Return the choices with what the token has and the reader cannot choose otherwise."""
    missing = set(token.templates or ()) - {str(pk) for pk, _ in choices}
    known = names.of([f"template:{pk}" for pk in sorted(missing)])
    return choices + [(pk, known.get(f"template:{pk}") or pk) for pk in sorted(missing)]


def _mark(hits: list[Hit]) -> str:
    """Return what tells that somebody has seen exactly these."""
    text = " ".join(sorted(f"{hit} {hit.queued}" for hit in hits))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
