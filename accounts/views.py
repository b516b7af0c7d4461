"""The pages of access: one's account, tokens, users, roles, audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.db.models import Count, F, Q
from django.db.models.functions import Now
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import revocation, rotation, tokens, users
from accounts.api.querysets import roles_visible_to, users_visible_to
from accounts.audit.exporting import export
from accounts.forms import (
    AuditFilters,
    RolesForm,
    RotateForm,
    RunningVmsForm,
    UserFilters,
    UserForm,
    WeightForm,
)
from accounts.models import ApiToken, AuditEvent, AuditMark, Role, User
from accounts.permissions import PERMISSIONS
from events.models import Sequence
from orchestrator.refusals import Invalid
from orchestrator.web import names, pages

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpResponse

    from orchestrator.web.pages import PageRequest


@pages.page
@require_safe
def account(request: PageRequest) -> HttpResponse:
    """Show who one is and what one may do."""
    context = {
        "roles": Role.objects.of(request.actor.user_id).select_related("group"),
        "allowed": [
            permission for code, permission in PERMISSIONS.items() if request.actor.can(code)
        ],
    }
    return pages.render(request, "accounts/account.html", context)


# Tokens -----------------------------------------------------------------------------------------


def _tokens(request: PageRequest) -> Any:
    return ApiToken.objects.visible_to(request.actor).for_page()


@pages.page
@require_safe
def token_list(request: PageRequest) -> HttpResponse:
    """List one's own tokens, or everybody's with `?all=1` and the permission."""
    everybody = "all" in request.GET and request.actor.can("accounts.view")
    rows = _tokens(request)
    unused = "unused" in request.GET
    if unused:
        rows = rows.filter(is_unused=True)
    if not everybody:
        rows = rows.filter(user=request.actor.user)
    context = {
        "slice": pages.newest_first(request, rows),
        "everybody": everybody,
        "unused": unused,
        "may_see_all": request.actor.can("accounts.view"),
    }
    return pages.render(request, "accounts/tokens.html", context, partial="rows")


@pages.page
@require_safe
def token_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show one token and which templates it is narrowed to."""
    token = get_object_or_404(_tokens(request), pk=id)
    subjects = [f"template:{key}" for key in token.templates or []]
    known = names.of(subjects)
    context = {
        "token": token,
        "templates": [(subject, known.get(subject, "")) for subject in subjects],
        "may_revoke": _may_revoke(request, token),
    }
    return pages.render(request, "accounts/token.html", context, partial="token")


def _may_revoke(request: PageRequest, token: ApiToken) -> bool:
    mine = token.user_id == request.actor.user_id
    return token.revoked_at is None and (mine or request.actor.can("accounts.manage"))


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def token_revoke(request: PageRequest, id: UUID) -> HttpResponse:
    """Show what revoking hits, then revoke with the choice for running VMs."""
    token = get_object_or_404(_tokens(request), pk=id)
    form = RunningVmsForm(pages.posted(request))

    def revoke(data: dict[str, Any]) -> bool:
        tokens.revoke_token(request.actor, token, running_vms=data["running_vms"])
        return True

    if request.method == "POST" and pages.accepted(form, revoke):
        url = reverse("accounts:tokens")
        return pages.done(request, url, f"The token “{token.name}” is revoked.")
    context = {
        "form": form,
        "heading": f"Revoke the token “{token.name}”?",
        "explanation": "It is refused from now on, and what it has queued is cancelled.",
        "hits": revocation.preview(revocation.Revoked("token", token.pk)),
        "verb": "Revoke token",
        "back": reverse("accounts:token", args=[token.pk]),
    }
    return pages.render(
        request, "accounts/confirm.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def token_rotate(request: PageRequest, id: UUID) -> HttpResponse:
    """Give a token a new secret; it is on the answer to the form, and nowhere else, ever."""
    token = get_object_or_404(_tokens(request), pk=id)
    tokens.require_manage(request.actor, token)
    form = RotateForm(pages.posted(request))
    made = pages.accepted(form, lambda data: rotation.rotate_token(request.actor, token, **data))
    context = {
        "form": form,
        "token": token,
        "clear_text": made[1] if made else "",
        "back": reverse("accounts:token", args=[token.pk]),
    }
    return pages.render(
        request, "accounts/token_rotate.html", context, status=pages.status_of(form)
    )


@pages.page
@require_POST
def token_end_overlap(request: PageRequest, id: UUID) -> HttpResponse:
    """End the secret before the last rotation."""
    token = get_object_or_404(_tokens(request), pk=id)
    rotation.end_overlap(request.actor, token)
    back = reverse("accounts:token", args=[token.pk])
    return pages.done(request, back, "The old secret is refused from now on.")


# Users and roles --------------------------------------------------------------------------------


@pages.page
@require_safe
def user_list(request: PageRequest) -> HttpResponse:
    """List people and service accounts."""
    request.actor.require("accounts.view")
    rows = (
        users_visible_to(request.actor)
        .prefetch_related("groups")
        .annotate(
            live_tokens=Count(
                "tokens",
                filter=Q(tokens__revoked_at=None)
                & (Q(tokens__expires_at=None) | Q(tokens__expires_at__gt=Now())),
                distinct=True,
            )
        )
    )
    filters = UserFilters(request.GET, rows)
    context = {"filters": filters, "slice": pages.newest_first(request, filters.qs)}
    return pages.render(request, "accounts/users.html", context, partial="rows")


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def user_create(request: PageRequest) -> HttpResponse:
    """Make an account."""
    request.actor.require("accounts.manage")
    form = UserForm(pages.posted(request))
    if request.method == "POST":
        user = pages.accepted(form, lambda data: users.create_user(request.actor, **data))
        if user:
            url = reverse("accounts:user", args=[user.pk])
            return pages.done(request, url, f"The account “{user.username}” is there.")
    return pages.render(
        request,
        "accounts/user_form.html",
        {"form": form},
        partial="form",
        status=pages.status_of(form),
    )


def _user(request: PageRequest, id: UUID) -> User:
    return get_object_or_404(users_visible_to(request.actor).prefetch_related("groups"), pk=id)


@pages.page
@require_safe
def user_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show one account: roles, tokens, and what it did last."""
    user = _user(request, id)
    if user.kind == User.Kind.SERVICE:
        return redirect("console:service-account", user.pk)
    context = {
        "account": user,
        "roles": Role.objects.of(user.pk).select_related("group"),
        "tokens": _tokens(request).filter(user=user).order_by("-pk")[:20],
        "acts": AuditEvent.objects.visible_to(request.actor)
        .filter(actor_id=user.pk)
        .order_by("-pk")[:10],
    }
    return pages.render(request, "accounts/user.html", context, partial="account")


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def user_roles(request: PageRequest, id: UUID) -> HttpResponse:
    """Change the roles of an account; shows what taking each away would hit."""
    request.actor.require("accounts.manage")
    user = _user(request, id)
    held = list(Role.objects.of(user.pk).select_related("group"))
    form = RolesForm(
        pages.posted(request), initial={"roles": [role.pk for role in held], "running_vms": "keep"}
    )

    def change(data: dict[str, Any]) -> bool:
        users.set_roles(request.actor, user, data["roles"], running_vms=data["running_vms"])
        return True

    if request.method == "POST" and pages.accepted(form, change):
        url = reverse("accounts:user", args=[user.pk])
        return pages.done(request, url, f"The roles of “{user.username}” are changed.")
    context = {
        "form": form,
        "heading": f"Roles of {user.username}",
        "explanation": "What is taken away ends at once.",
        "hits_by": [
            (
                f"Taking away {role.name}",
                revocation.preview(revocation.Revoked("membership", role.pk, user.pk)),
            )
            for role in held
        ],
        "verb": "Change roles",
        "back": reverse("accounts:user", args=[user.pk]),
    }
    return pages.render(
        request, "accounts/confirm.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def user_active(request: PageRequest, id: UUID) -> HttpResponse:
    """Deactivate an account after showing what that hits, or activate it again."""
    request.actor.require("accounts.manage")
    user = _user(request, id)
    back = reverse("accounts:user", args=[user.pk])
    activate = not user.is_active
    form = RunningVmsForm(pages.posted(request))
    if activate:
        form.fields.pop("running_vms")

    def change(data: dict[str, Any]) -> bool:
        users.set_active(request.actor, user, activate, running_vms=data.get("running_vms", "keep"))
        return True

    if request.method == "POST" and pages.accepted(form, change):
        word = "active again" if activate else "deactivated"
        return pages.done(request, back, f"“{user.username}” is {word}.")
    hits = None if activate else revocation.preview(revocation.Revoked("user", user.pk))
    context = {
        "form": form,
        "heading": f"{'Activate' if activate else 'Deactivate'} {user.username}?",
        "explanation": "The account and its tokens work again, with the roles it has."
        if activate
        else "Its sessions end, its tokens are refused, and what it has queued is cancelled.",
        "hits": hits,
        "verb": "Activate" if activate else "Deactivate",
        "harmless": activate,
        "back": back,
    }
    return pages.render(
        request, "accounts/confirm.html", context, partial="form", status=pages.status_of(form)
    )


@pages.page
@require_safe
def role_list(request: PageRequest) -> HttpResponse:
    """Show the table role × permission."""
    request.actor.require("accounts.view")
    roles = list(
        roles_visible_to(request.actor)
        .annotate(members=Count("group__user"))
        .order_by(F("shipped").desc(), "group__name")
    )
    context = {
        "roles": roles,
        "rows": [
            (permission, [permission.code in role.permissions for role in roles])
            for permission in PERMISSIONS.values()
        ],
    }
    return pages.render(request, "accounts/roles.html", context, partial="table")


@pages.page
@require_http_methods(["GET", "HEAD", "POST"])
def weigh_role(request: PageRequest, id: UUID) -> HttpResponse:
    """Change how large a role's share is when roles compete for the pool."""
    request.actor.require("accounts.manage")
    role = get_object_or_404(roles_visible_to(request.actor), pk=id)
    form = WeightForm(pages.posted(request), initial={"weight": role.weight})

    def weigh(values: dict[str, int]) -> bool:
        users.set_weight(request.actor, role, **values)
        return True

    if pages.accepted(form, weigh):
        return pages.done(request, reverse("accounts:roles"), f"The weight of {role} was changed.")
    context = {
        "form": form,
        "title": f"Weight of {role}",
        "text": "When roles compete for the pool, one of twice the weight gets twice as much.",
        "verb": "Change it",
    }
    return pages.render(
        request, "accounts/weight.html", context, partial="form", status=pages.status_of(form)
    )


# Audit ------------------------------------------------------------------------------------------


@pages.page
@require_safe
def audit_list(request: PageRequest) -> HttpResponse:
    """List what was done and refused, newest first, with the head of the chain."""
    request.actor.require("audit.view")
    filters = AuditFilters(request.GET, AuditEvent.objects.visible_to(request.actor))
    context = {
        "filters": filters,
        "slice": pages.newest_first(request, filters.qs),
        "head": Sequence.objects.filter(name="audit").first(),
        "unsealed": AuditEvent.objects.filter(sequence__isnull=True).count(),
        "checked": AuditMark.objects.filter(name=AuditMark.Name.CHECKED).first(),
        "pruned": AuditMark.objects.filter(name=AuditMark.Name.PRUNED, sequence__gt=0).first(),
        "narrowed": urlencode(_narrowed_by(filters)),
    }
    return pages.render(request, "accounts/audit.html", context, partial="rows")


def _narrowed_by(filters: AuditFilters) -> dict[str, str]:
    return {name: filters.data[name] for name in filters.filters if filters.data.get(name)}


@pages.page
@require_safe
def audit_export(request: PageRequest) -> Any:
    """Download what the list shows, as CSV or JSON lines."""
    filters = AuditFilters(request.GET, AuditEvent.objects.visible_to(request.actor))
    if not filters.is_valid():
        raise Invalid(next(iter(filters.errors.values()))[0])
    form = request.GET.get("as", "csv")
    return export(request.actor, filters.qs, form, filters=_narrowed_by(filters))
