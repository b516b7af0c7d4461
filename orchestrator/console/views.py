"""The pages that span rooms: the overview, and a new token with its templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import tokens
from accounts.api.querysets import users_visible_to
from accounts.forms import TokenForm
from accounts.models import User
from orchestrator.console import queries
from orchestrator.web import pages
from vms.models import Template

if TYPE_CHECKING:
    from accounts.models import ApiToken
    from orchestrator.web.pages import PageRequest

THEMES = ("light", "dark")
THEME_SECONDS = 365 * 86_400
TEMPLATE_CHOICES = 500


@pages.page
@require_safe
def overview(request: PageRequest) -> HttpResponse:
    """Show the pool: capacity, hosts, queue, jobs, leases, problems."""
    context = queries.overview(request.actor)
    return pages.render(request, "console/overview.html", context, partial="overview")


@require_POST
def theme(request: PageRequest) -> HttpResponse:
    """Keep the reader's choice of colours in a cookie; none follows the system."""
    response = HttpResponseRedirect(pages.came_from(request), status=303)
    chosen = request.POST.get("theme", "")
    if chosen in THEMES:
        response.set_cookie(
            "theme", chosen, max_age=THEME_SECONDS, samesite="Lax", secure=request.is_secure()
        )
    else:
        response.delete_cookie("theme", samesite="Lax")
    return response


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def token_create(request: PageRequest) -> HttpResponse:
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
    templates = Template.objects.visible_to(actor).live().order_by("name")
    form = TokenForm(
        pages.posted(request),
        initial={"user": request.GET.get("user")},
        owners=owners,
        templates=templates.values_list("pk", "name")[:TEMPLATE_CHOICES],
    )

    def make(data: dict[str, Any]) -> tuple[ApiToken, str]:
        return tokens.create_token(
            actor,
            name=data["name"],
            scopes=data["scopes"],
            user=data.get("user"),
            templates=data.get("templates") or None,
            networks=data["networks"],
            maximum_vms=data["maximum_vms"],
            expires_at=form.expires_at(),
        )

    context: dict[str, Any] = {"form": form, "back": reverse("accounts:tokens")}
    if request.method == "POST" and (made := pages.accepted(form, make)):
        context["token"], context["clear_text"] = made
        context["api_url"] = request.build_absolute_uri("/api/v2/vms/")
    return pages.render(request, "console/token_form.html", context, status=pages.status_of(form))
