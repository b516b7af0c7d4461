"""The pages of service accounts: what each has, may use and runs. They span rooms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Count, Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Now
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from accounts.api.querysets import users_visible_to
from accounts.models import ApiToken, AuditEvent, Role, User
from orchestrator.web import pages
from vms import matrix
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models import QuerySet
    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest

SHOWN = 50


def _accounts(request: PageRequest) -> QuerySet[User]:
    return users_visible_to(request.actor).filter(kind=User.Kind.SERVICE)


@pages.page
@require_safe
def listing(request: PageRequest) -> HttpResponse:
    """List service accounts with their tokens, VMs and last use."""
    request.actor.require("accounts.view")
    live = Q(tokens__revoked_at=None) & (
        Q(tokens__expires_at=None) | Q(tokens__expires_at__gt=Now())
    )
    vms = (
        VirtualMachine.objects.visible_to(request.actor)
        .open()
        .filter(requested_by=OuterRef("pk"))
        .order_by()
        .values("requested_by")
        .annotate(count=Count("pk"))
        .values("count")
    )
    rows = (
        _accounts(request)
        .prefetch_related("groups")
        .annotate(
            live_tokens=Count("tokens", filter=live),
            last_used_at=Max("tokens__last_used_at"),
            open_vms=Coalesce(Subquery(vms), 0),
        )
    )
    context = {"slice": pages.newest_first(request, rows)}
    return pages.render(request, "console/service_accounts.html", context, partial="rows")


@pages.page
@require_safe
def page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show one service account: tokens, what it can use, its VMs, and what it did last."""
    actor = request.actor
    account = get_object_or_404(_accounts(request), pk=id)
    tokens = ApiToken.objects.visible_to(actor).filter(user=account)
    vms = VirtualMachine.objects.visible_to(actor).open().filter(requested_by=account)
    acts = AuditEvent.objects.visible_to(actor).filter(actor_id=account.pk)
    context = {
        "account": account,
        "roles": Role.objects.of(account.pk).select_related("group"),
        "tokens": tokens.for_page().order_by("-pk")[:SHOWN],
        "last_used_at": tokens.aggregate(at=Max("last_used_at"))["at"],
        "ways": matrix.what_can_use(actor, account),
        "vms": vms.for_page().order_by("-pk")[:SHOWN],
        "acts": acts.order_by("-pk")[:10],
    }
    return pages.render(request, "console/service_account.html", context, partial="account")
