"""The pages of who may use what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from accounts.api.querysets import users_visible_to
from accounts.models import ApiToken
from accounts.rights import rights_of
from orchestrator.web import pages
from vms import matrix
from vms.access_export import export
from vms.access_forms import MatrixForm

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest


@pages.page
@require_safe
def matrix_page(request: PageRequest) -> HttpResponse:
    """Show subjects × templates."""
    form = MatrixForm(request.GET)
    asked = form.cleaned_data if form.is_valid() else {}
    context = {"form": form, "matrix": matrix.matrix(request.actor, **asked)}
    return pages.render(request, "vms/matrix.html", context, partial="rows")


@pages.page
@require_safe
def matrix_export(request: PageRequest) -> HttpResponse:
    """Download what the matrix is made of, of the same subjects and templates, as CSV."""
    form = MatrixForm(request.GET)
    asked = form.cleaned_data if form.is_valid() else {}
    ways = matrix.in_matrix(request.actor, **asked)
    return export(request.actor, ways, filters={key: word for key, word in asked.items() if word})


@pages.page
@require_safe
def token_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show what a token can do: what its account can, and what the token is kept from."""
    token = get_object_or_404(
        ApiToken.objects.visible_to(request.actor).select_related("user"), pk=id
    )
    context = {
        "account": token.user,
        "token": token,
        "live": ApiToken.objects.live().filter(pk=token.pk).exists(),
        "rights": rights_of(request.actor, token.user, token),
        "ways": matrix.what_can_use(request.actor, token.user, token),
    }
    return pages.render(request, "vms/user_access.html", context, partial="live")


@pages.page
@require_safe
def account_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show what an account can do: the source of each right, and why it may use each template."""
    user = get_object_or_404(users_visible_to(request.actor), pk=id)
    context = {
        "account": user,
        "rights": rights_of(request.actor, user),
        "ways": matrix.what_can_use(request.actor, user),
    }
    return pages.render(request, "vms/user_access.html", context, partial="live")
