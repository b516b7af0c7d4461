"""The overview, and the reader's colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponse, HttpResponseRedirect
from django.views.decorators.http import require_POST, require_safe

from orchestrator.console import queries
from orchestrator.web import pages

if TYPE_CHECKING:
    from orchestrator.web.pages import PageRequest

THEMES = ("light", "dark")
THEME_SECONDS = 365 * 86_400


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
