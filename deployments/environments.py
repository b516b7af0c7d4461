"""Environments: made, changed, and what they consist of when a deployment is prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from accounts.audit import audit, changed
from accounts.users import from_validation
from deployments import access, policies
from deployments.documents import refuse
from deployments.models import Dictionary, Environment, EnvironmentDictionary, Member
from deployments.planning import Container
from deployments.schemas import Field, problems
from events.publishing import publish
from hosts.models import Health, Host
from orchestrator.api.references import as_id
from orchestrator.refusals import Conflict, Invalid, NotFound
from vms.models import VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from accounts.actors import Actor

BALANCER: dict[str, Field] = {
    "vm": Field("text", "VM on which its scripts run", required=True, placeholders=False),
    "disable": Field("lines", "Takes {{member}} out of the pool", required=True),
    "enable": Field("lines", "Puts {{member}} back", required=True),
    "timeout_seconds": Field("integer", "Time limit", default=300, least=1, most=86_400),
}
SETTINGS = ("name", "description", "policy", "balancers")
PLACES = ("group", "sub_group", "sub_sub_group")
LARGEST_GROUP = 2**31 - 1


def create_environment(
    actor: Actor, *, name: str, restricted: bool = False, **fields: Any
) -> Environment:
    """Make an environment; `fields` as `update_environment` takes them. Raises `Invalid`.

    A `restricted` one has whoever makes it on its list, to administer it.
    """
    actor.require("deployments.manage")
    with transaction.atomic():
        actor.take()
        actor.require("deployments.manage")
        environment = Environment(name=name, restricted=restricted)
        _change(environment, fields)
        if restricted:
            environment.access.create(
                user=actor.user, level=access.ADMINISTER, created_by=actor.user
            )
        told = {"after": _settings_of(environment), "members": environment.members.count()}
        audit(actor, "environment.created", environment.subject, environment.name, data=told)
        announce(environment)
    return environment


def update_environment(actor: Actor, environment: Environment, **fields: Any) -> Environment:
    """Change name, description, policy, balancers; `dictionaries` (in order) and `members`.

    `members` replaces all: each has `vm`, `host`, or `noun` and `tag`, and perhaps numbers of
    groups, `labels`, `tags`, `balancer`. Raises `Forbidden`, `Invalid`.
    """
    access.require_change(actor, environment)
    with transaction.atomic():
        actor.take()
        environment = _locked(environment)
        access.take_change(actor, environment)
        before = _settings_of(environment)
        _change(environment, fields)
        told = changed(before, _settings_of(environment)) | {"fields": sorted(fields)}
        audit(actor, "environment.changed", environment.subject, environment.name, data=told)
        announce(environment)
    return environment


def _settings_of(environment: Environment) -> dict[str, Any]:
    """Return what the trail tells of it as it is."""
    names = environment.uses.order_by("position")
    return {
        **{name: getattr(environment, name) for name in (*SETTINGS, "restricted")},
        "dictionaries": list(names.values_list("dictionary__name", flat=True)),
    }


def _change(environment: Environment, fields: Mapping[str, Any]) -> None:
    for field in SETTINGS:
        if field in fields:
            setattr(environment, field, fields[field])
    environment.name = environment.name.strip()
    refuse(policies.environment_problems(environment.policy, ("policy",)))
    if not isinstance(environment.balancers, Mapping):
        raise Invalid.field("balancers", "Give balancers by their names.")
    for name, balancer in environment.balancers.items():
        refuse(problems(BALANCER, balancer, ("balancers", name)))
        vm = as_id(str(balancer["vm"]))
        if vm is None or not VirtualMachine.objects.open().filter(pk=vm).exists():
            raise Invalid.field("balancers", f"The VM of the balancer {name} is not there.")
    try:
        environment.full_clean()
    except ValidationError as error:
        raise from_validation(error) from None
    environment.save()
    if "dictionaries" in fields:
        environment.uses.all().delete()
        EnvironmentDictionary.objects.bulk_create(
            EnvironmentDictionary(environment=environment, dictionary=one, position=position)
            for position, one in enumerate(dict.fromkeys(fields["dictionaries"]))
        )
    if "members" in fields:
        environment.members.all().delete()
        for one in fields["members"]:
            _add(environment, one)


def add_member(actor: Actor, environment: Environment, **values: Any) -> Member:
    """Add a VM, a host, or all that have a tag. Raises `Invalid`, `Conflict` when it is there."""
    access.require_change(actor, environment)
    with transaction.atomic():
        actor.take()
        access.take_change(actor, environment)
        member = _add(environment, values)
        told = {"member": str(member)}
        audit(actor, "environment.member_added", environment.subject, environment.name, data=told)
        announce(environment)
    return member


def _add(environment: Environment, values: Mapping[str, Any]) -> Member:
    given = [name for name in ("vm", "host", "tag") if values.get(name)]
    if len(given) != 1:
        raise Invalid.field("vm", "Give one of: a VM, a host, or a tag.")
    member = Member(
        environment=environment,
        vm=values.get("vm"),
        host=values.get("host"),
        noun=(values.get("noun") or Member.Noun.VM) if values.get("tag") else "",
        tag=(values.get("tag") or "").strip(),
        labels=_labels(values.get("labels") or {}),
        tags=_tags(values.get("tags") or []),
        balancer=values.get("balancer") or "",
        **{place: _group(place, values.get(place)) for place in PLACES},
    )
    try:
        with transaction.atomic():
            member.save(force_insert=True)
    except IntegrityError:
        raise Conflict(
            f"{member} is in {environment} already; change or remove that.", code="member_exists"
        ) from None
    return member


def _group(name: str, value: Any) -> int | None:
    if value is not None and not -LARGEST_GROUP <= value <= LARGEST_GROUP:
        raise Invalid.field(name, "Give a smaller number.")
    return None if value is None else int(value)


def _labels(labels: Mapping[str, Any]) -> dict[str, str]:
    if not all(isinstance(one, str) and len(one) <= 100 for one in labels.values()):
        raise Invalid.field("labels", "The value of a label is a text of at most 100 characters.")
    return dict(labels)


def _tags(tags: Sequence[str]) -> list[str]:
    found = [tag.strip() for tag in tags if tag.strip()]
    if any(len(tag) > 100 for tag in found):
        raise Invalid.field("tags", "A tag has at most 100 characters.")
    return list(dict.fromkeys(found))


def remove_member(actor: Actor, member: Member) -> None:
    """Take a member out. What is deployed on it stays, and goes with the next deployment."""
    environment = member.environment
    access.require_change(actor, environment)
    with transaction.atomic():
        actor.take()
        access.take_change(actor, environment)
        told = {"member": str(member)}
        audit(actor, "environment.member_removed", environment.subject, environment.name, data=told)
        member.delete()
        announce(environment)


def delete_environment(actor: Actor, environment: Environment) -> None:
    """Delete an environment on which nothing is deployed. Raises `Forbidden`, `Conflict`."""
    access.require_change(actor, environment)
    with transaction.atomic():
        actor.take()
        environment = _locked(environment)
        access.take_change(actor, environment)
        there = environment.deployed_applications.select_related("package__application").first()
        if there:
            raise Conflict(f"{there.package} is deployed on {environment}; undeploy it first.")
        audit(actor, "environment.deleted", environment.subject, environment.name)
        announce(environment)
        try:
            with transaction.atomic():
                environment.delete()
        except IntegrityError as error:  # ProtectedError, too: tasks keep their environment
            raise Conflict(
                f"{environment} has a history of deployments, which keeps it."
            ) from error


def _locked(environment: Environment) -> Environment:
    """Return the environment, its row held: taking it shared first, two would wait for another."""
    found = Environment.objects.select_for_update().filter(pk=environment.pk).first()
    if found is None:
        raise NotFound("This environment is not there any more.")
    return found


def announce(environment: Environment) -> None:
    """Publish that an environment changed."""
    publish(
        "environment.changed",
        environment.subject,
        {"name": environment.name},
        permission="deployments.view",
    )


def fresh(pk: Any) -> Environment:
    """Return an environment as it is now: its policy and balancers count for a fingerprint."""
    found = Environment.objects.filter(pk=pk).first()
    if found is None:
        raise NotFound("This environment is not there any more.")
    return found


# What it consists of ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """A VM or host of an environment: as the planner sees it, and itself."""

    container: Container
    vm: VirtualMachine | None = None
    host: Host | None = None

    @property
    def path(self) -> str:
        return self.container.place[1]

    @property
    def kind(self) -> str:
        return "vm" if self.vm else "host"

    @property
    def trouble(self) -> str:
        """Return why steps on it are likely to fail now; empty when nothing is known."""
        if self.vm:
            if self.vm.is_final:
                return f"it is {self.vm.state}"
            if self.vm.is_unknown:
                return "its host does not answer"
            return "" if self.vm.state == State.RUNNING else f"it is {self.vm.state}"
        assert self.host is not None
        if self.host.removed_at:
            return "it was removed"
        if self.host.status.health == Health.UNREACHABLE:
            return "it does not answer"
        return ""


def site_of(thing: VirtualMachine | Host, member: Member | None = None) -> Site:
    """Return a VM or host as the planner sees it: with the numbers and labels of its membership."""
    vm = thing if isinstance(thing, VirtualMachine) else None
    path = f"vm:{thing.pk}" if vm else f"host:{thing.pk}"
    container = Container(
        thing.name,
        path,
        tags=frozenset(thing.tags),
        host=(vm.host.name if vm.host else None) if vm else thing.name,
    )
    if member:
        container = replace(
            container,
            group=member.group,
            sub_group=member.sub_group,
            sub_sub_group=member.sub_sub_group,
            tags=frozenset([*thing.tags, *member.tags]),
            balancer=member.balancer or None,
            labels=member.labels,
        )
    return Site(container, vm, None if vm else thing)  # type: ignore[arg-type]


def sites(environment: Environment) -> dict[str, Site]:
    """Return the VMs and hosts that an environment consists of now, by path, sorted by name.

    A VM or host that is named wins over a tag that matches it, and an older tag over a newer one.
    VMs that are gone are not in it.
    """
    members = list(
        environment.members.select_related("vm__host__status", "host__status").order_by("id")
    )
    found: dict[str, Site] = {}
    named = [one for one in members if not one.tag]
    for member in [*named, *(one for one in members if one.tag)]:
        for thing in things(member):
            site = site_of(thing, member)
            found.setdefault(site.path, site)
    return dict(sorted(found.items(), key=lambda pair: pair[1].container.place))


def things(member: Member) -> list[VirtualMachine | Host]:
    """Return what a member stands for now: nothing when it is gone."""
    if member.vm:
        return [] if member.vm.is_final else [member.vm]
    if member.host:
        return [] if member.host.removed_at else [member.host]
    rows: Any
    if member.noun == Member.Noun.VM:
        rows = VirtualMachine.objects.open().select_related("host__status")
    else:
        rows = Host.objects.present().select_related("status")
    # SQLite has no lookup for “list contains”: narrowed by text, decided here.
    return [one for one in rows.filter(tags__icontains=member.tag) if member.tag in one.tags]


def gone(environment: Environment) -> list[str]:
    """Return the names of members that are no longer there."""
    members = environment.members.filter(tag="").select_related("vm", "host")
    return [
        str(one)
        for one in members
        if (one.vm and one.vm.is_final) or (one.host and one.host.removed_at)
    ]


def dictionaries_of(environment: Environment) -> list[Dictionary]:
    """Return its dictionaries, the first that has a key wins."""
    uses = environment.uses.select_related("dictionary").prefetch_related(
        "dictionary__entries", "dictionary__applications"
    )
    return [use.dictionary for use in uses]
