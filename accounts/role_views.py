"""The pages that make, change and delete roles of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts import custom_roles, users
from accounts.api.querysets import roles_visible_to
from accounts.forms import RoleChangesForm, RoleForm, RunningVmsForm
from orchestrator.web import pages

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from django.http import HttpResponse

    from accounts.models import Role
    from orchestrator.web.pages import PageRequest

form_view = require_http_methods(["GET", "HEAD", "POST"])


@pages.page
@form_view
def new(request: PageRequest) -> HttpResponse:
    """Make a role."""
    request.actor.require("accounts.manage")
    return _dialog(
        request,
        RoleForm(pages.posted(request)),
        lambda values: custom_roles.create_role(request.actor, **values),
        told="The role was made.",
        heading="New role",
        explanation="It allows what you tick, and nothing else.",
        verb="Make the role",
        harmless=True,
    )


@pages.page
@form_view
def change(request: PageRequest, id: UUID) -> HttpResponse:
    """Change a role, after showing the most that this can hit."""
    role = _role(request, id)

    def act(values: dict[str, Any]) -> bool:
        custom_roles.change_role(request.actor, role, **values)
        return True

    initial = {"name": role.name, "permissions": role.permissions, "running_vms": "keep"}
    hits = custom_roles.preview_losing(role, deleting=False)
    return _dialog(
        request,
        RoleChangesForm(pages.posted(request), initial=initial),
        act,
        told=f"The role {role} was changed.",
        heading=f"Change {role}",
        explanation="It counts with the next request of each member.",
        verb="Change it",
        hits_by=[("Taking rights away", hits)],
    )


@pages.page
@form_view
def delete(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete a role, after showing what that hits."""
    role = _role(request, id)

    def act(values: dict[str, Any]) -> bool:
        custom_roles.delete_role(request.actor, role, **values)
        return True

    return _dialog(
        request,
        RunningVmsForm(pages.posted(request)),
        act,
        told=f"The role {role} was deleted.",
        heading=f"Delete {role}?",
        explanation="Its grants and its quota go with it.",
        verb="Delete it",
        hits=custom_roles.preview_losing(role, deleting=True),
    )


@pages.page
@form_view
def second_factor(request: PageRequest, id: UUID) -> HttpResponse:
    """Ask for a second factor of whoever holds a role, shipped or not; or stop asking."""
    request.actor.require("accounts.manage")
    role = get_object_or_404(roles_visible_to(request.actor), pk=id)
    required = not role.requires_second_factor

    def act(values: dict[str, Any]) -> bool:
        users.require_second_factor(request.actor, role, required)
        return True

    return _dialog(
        request,
        forms.Form(pages.posted(request)),
        act,
        told=f"{role} {'asks' if required else 'does not ask'} for a second factor now.",
        heading=f"Ask for a second factor of each {role}?"
        if required
        else f"Let each {role} in without a second factor?",
        explanation="Members who signed in without one are sent to set one up at their next "
        "click. Tokens are not concerned."
        if required
        else "A password alone is enough again.",
        verb="Ask for it" if required else "Do not ask for it",
        harmless=required,
    )


def _role(request: PageRequest, id: UUID) -> Role:
    request.actor.require("accounts.manage")
    return get_object_or_404(roles_visible_to(request.actor), pk=id, shipped=False)


def _dialog(
    request: PageRequest,
    form: forms.Form,
    act: Callable[[dict[str, Any]], Any],
    *,
    told: str,
    **context: Any,
) -> HttpResponse:
    back = reverse("accounts:roles")
    return pages.dialog(
        request,
        "accounts/confirm.html",
        form,
        act,
        back=back,
        told=told,
        **context,
    )
