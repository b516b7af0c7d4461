"""Pages of environments and dictionaries."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from deployments import access, dictionaries, environments
from deployments.forms import DictionaryForm, EntryForm, EnvironmentForm, MemberForm
from deployments.models import Dictionary, Environment, Member
from hosts.models import Host
from orchestrator.web import pages
from vms.models import VirtualMachine
from vms.views.templates import form_view

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from orchestrator.web.pages import PageRequest

FORM = "deployments/form.html"


def _environment(request: PageRequest, id: UUID) -> Environment:
    return get_object_or_404(Environment.objects.visible_to(request.actor), pk=id)


def changeable(request: PageRequest, id: UUID) -> Environment:
    """Return the environment of a page that changes it. Raises `Http404`, `Forbidden`."""
    found = _environment(request, id)
    access.require_change(request.actor, found)
    return found


def _dictionary(request: PageRequest, id: UUID) -> Dictionary:
    return get_object_or_404(Dictionary.objects.visible_to(request.actor), pk=id)


def page_of(thing: Environment | Dictionary) -> str:
    name = "environment" if isinstance(thing, Environment) else "dictionary"
    return reverse(f"deployments:{name}", kwargs={"id": thing.pk})


@require_safe
@pages.page
def environment_list(request: PageRequest) -> HttpResponse:
    """List environments with what is on them."""
    rows = Environment.objects.visible_to(request.actor).prefetch_related(
        "members", "deployed_applications__package__application", "uses__dictionary"
    )
    context = {"slice": pages.newest_first(request, rows)}
    return pages.render(request, "deployments/environments.html", context, partial="rows")


@require_safe
@pages.page
def environment_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show an environment: members, values, and what is deployed where."""
    environment = _environment(request, id)
    members = environment.members.select_related("vm__host__status", "host__status")
    sites = environments.sites(environment)
    context = {
        "environment": environment,
        "members": members,
        "sites": sites.values(),
        "may_change": request.actor.can("deployments.manage")
        and access.may(request.actor, environment, access.ADMINISTER),
        "may_deploy": request.actor.can("deployments.run")
        and access.may(request.actor, environment, access.DEPLOY),
        "lines": environment.access.for_page(),
        "balancers": _balancers(environment, members),
        "matched": {
            str(member.pk): sum(1 for _ in environments.things(member)) for member in members
        },
        "uses": environment.uses.select_related("dictionary"),
        "deployed": environment.deployed_applications.select_related(
            "package__application"
        ).prefetch_related("deployeds__created_vm"),
    }
    return pages.render(request, "deployments/environment.html", context, partial="live")


def _balancers(environment: Environment, members: Iterable[Member]) -> list[dict[str, Any]]:
    """Return the balancers with their VMs and members; and names without any scripts."""
    ids = [one["vm"] for one in environment.balancers.values()]
    vms = {str(vm.pk): vm for vm in VirtualMachine.objects.filter(pk__in=ids)}
    managed = Counter(member.balancer for member in members if member.balancer)
    return [
        {
            "name": name,
            "known": name in environment.balancers,
            "vm": vms.get(environment.balancers.get(name, {}).get("vm", "")),
            "members": managed[name],
        }
        for name in sorted({*environment.balancers, *managed})
    ]


@form_view
@pages.page
def new_environment(request: PageRequest) -> HttpResponse:
    """Make an environment."""
    request.actor.require("deployments.manage")
    form = EnvironmentForm(pages.posted(request))
    return pages.dialog(
        request,
        FORM,
        form,
        lambda values: environments.create_environment(request.actor, **values),
        back=page_of,
        told="The environment was made. Add its members.",
        title="New environment",
        verb="Make",
        up=reverse("deployments:environments"),
    )


@form_view
@pages.page
def edit_environment(request: PageRequest, id: UUID) -> HttpResponse:
    """Change an environment."""
    environment = _environment(request, id)
    access.require_change(request.actor, environment)
    before = {
        "name": environment.name,
        "description": environment.description,
        "dictionaries": ", ".join(
            use.dictionary.name for use in environment.uses.select_related("dictionary")
        ),
    }
    form = EnvironmentForm(pages.posted(request), initial=before)
    return pages.dialog(
        request,
        FORM,
        form,
        lambda values: environments.update_environment(request.actor, environment, **values),
        back=page_of(environment),
        told="The environment was changed.",
        title=f"Change {environment}",
        verb="Change",
        up=page_of(environment),
    )


@form_view
@pages.page
def add_member(request: PageRequest, id: UUID) -> HttpResponse:
    """Add a VM, a host, or all that have a tag."""
    environment = _environment(request, id)
    access.require_change(request.actor, environment)
    form = MemberForm(pages.posted(request), actor=request.actor)
    return pages.dialog(
        request,
        FORM,
        form,
        lambda values: environments.add_member(request.actor, environment, **values),
        back=page_of(environment),
        told="It is a member now.",
        title=f"Add to {environment}",
        verb="Add",
        up=page_of(environment),
    )


@require_POST
@pages.page
def remove_member(request: PageRequest, id: UUID, member: UUID) -> HttpResponse:
    """Take a member out."""
    environment = _environment(request, id)
    found = get_object_or_404(Member.objects.select_related("environment"), pk=member)
    if found.environment_id == environment.pk:
        environments.remove_member(request.actor, found)
    return pages.done(request, page_of(environment), "It is no member any more.")


@require_POST
@pages.page
def delete_environment(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete an environment."""
    environment = _environment(request, id)
    environments.delete_environment(request.actor, environment)
    return pages.done(request, reverse("deployments:environments"), f"{environment} was deleted.")


# Dictionaries -----------------------------------------------------------------------------------


@require_safe
@pages.page
def dictionary_list(request: PageRequest) -> HttpResponse:
    """List dictionaries."""
    rows = Dictionary.objects.visible_to(request.actor).prefetch_related(
        "entries", "applications", "used_by__environment"
    )
    context = {"slice": pages.newest_first(request, rows)}
    return pages.render(request, "deployments/dictionaries.html", context, partial="rows")


@require_safe
@pages.page
def dictionary_page(request: PageRequest, id: UUID) -> HttpResponse:
    """Show a dictionary; its secrets are masked."""
    dictionary = _dictionary(request, id)
    context = {
        "dictionary": dictionary,
        "entries": dictionary.entries.defer("secret_value"),
        "used_by": dictionary.used_by.select_related("environment"),
        "containers": _names(dictionary.containers),
        "mask": dictionaries.MASK,
    }
    return pages.render(request, "deployments/dictionary.html", context, partial="live")


def _names(paths: list[str]) -> list[str]:
    ids = [path.partition(":")[2] for path in paths]
    models: tuple[Any, Any] = (VirtualMachine, Host)
    found = [model.objects.filter(pk__in=ids).values_list("name", flat=True) for model in models]
    return sorted(name for names in found for name in names)


@form_view
@pages.page
def new_dictionary(request: PageRequest) -> HttpResponse:
    """Make a dictionary."""
    request.actor.require("deployments.manage")
    form = DictionaryForm(pages.posted(request), actor=request.actor)
    return pages.dialog(
        request,
        FORM,
        form,
        lambda values: dictionaries.create_dictionary(request.actor, **values),
        back=page_of,
        told="The dictionary was made. Give it values.",
        title="New dictionary",
        verb="Make",
        up=reverse("deployments:dictionaries"),
    )


@form_view
@pages.page
def edit_dictionary(request: PageRequest, id: UUID) -> HttpResponse:
    """Change what a dictionary is for."""
    dictionary = _dictionary(request, id)
    request.actor.require("deployments.manage")
    before = {
        "name": dictionary.name,
        "description": dictionary.description,
        "applications": dictionary.applications.all(),
        "containers": ", ".join(_names(dictionary.containers)),
    }
    form = DictionaryForm(pages.posted(request), initial=before, actor=request.actor)
    return pages.dialog(
        request,
        FORM,
        form,
        lambda values: dictionaries.update_dictionary(request.actor, dictionary, **values),
        back=page_of(dictionary),
        told="The dictionary was changed.",
        title=f"Change {dictionary}",
        verb="Change",
        up=page_of(dictionary),
    )


@form_view
@pages.page
def set_entry(request: PageRequest, id: UUID) -> HttpResponse:
    """Set a value. One that is there is replaced; a secret has to be typed anew."""
    dictionary = _dictionary(request, id)
    request.actor.require("deployments.manage")
    entry = dictionary.entries.filter(key=request.GET.get("key", "")).first()
    before: dict[str, Any] = {"key": request.GET.get("key", "")}
    if entry:
        before |= {"secret": entry.secret, "value": "" if entry.secret else entry.value}
    form = EntryForm(pages.posted(request), initial=before)

    def act(values: dict[str, Any]) -> Dictionary:
        name = "secrets" if values["secret"] else "entries"
        given = {values["key"]: values["value"]}
        return dictionaries.update_dictionary(request.actor, dictionary, **{name: given})

    return pages.dialog(
        request,
        FORM,
        form,
        act,
        back=page_of(dictionary),
        told="The value was set.",
        title="Set a value",
        verb="Set",
        up=page_of(dictionary),
    )


@require_POST
@pages.page
def remove_entry(request: PageRequest, id: UUID) -> HttpResponse:
    """Remove a value."""
    dictionary = _dictionary(request, id)
    key = request.POST.get("key", "")
    dictionaries.update_dictionary(request.actor, dictionary, entries={key: None})
    return pages.done(request, page_of(dictionary), f"{key} was removed.")


@require_POST
@pages.page
def delete_dictionary(request: PageRequest, id: UUID) -> HttpResponse:
    """Delete a dictionary."""
    dictionary = _dictionary(request, id)
    dictionaries.delete_dictionary(request.actor, dictionary)
    return pages.done(request, reverse("deployments:dictionaries"), f"{dictionary} was deleted.")
