"""What differs: the record of an environment against what packages want of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from deployments import artifacts, dictionaries, packages, types
from deployments.documents import refuse
from deployments.environments import Site
from deployments.models import Deployed
from deployments.planning import Operation
from deployments.prepared import DeltaView, Value
from deployments.schemas import PLACEHOLDER, Field, Problem, problems
from orchestrator.refusals import Conflict, Invalid
from vms.states import State
from vms.terms import slug

if TYPE_CHECKING:
    from deployments.models import (
        Application,
        Deployable,
        DeployedApplication,
        Dictionary,
        DictionaryEntry,
        Environment,
        Package,
    )

ANY_TAG, SOME_TAG = "*", "+"


def matches(tags: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether a deployable and a container with these tags belong together.

    Neither has any; or one has `*`; or one has `+` and the other any; or they share one.
    """
    one, two = set(tags), set(others)
    if not one and not two:
        return True
    if ANY_TAG in one | two:
        return True
    if (SOME_TAG in one and two) or (SOME_TAG in two and one):
        return True
    return bool(one & two)


def mapped(deployable: Deployable, sites: Mapping[str, Site]) -> list[str]:
    """Return the paths of the containers that a deployable goes to, by type and then tags."""
    kind = types.TYPES[deployable.type]
    return [
        path
        for path, site in sites.items()
        if site.kind in kind.on and matches(deployable.tags, site.container.tags)
    ]


@dataclass
class Wanted:
    """What one application is to have: its version, and the deltas that lead there."""

    application: Application
    package: Package | None  # None: it goes
    record: DeployedApplication | None
    as_dependency: bool = False
    # To be recorded with it; None: those of this deployment, or what is recorded of a dependency.
    orchestrators: tuple[str, ...] | None = None
    members: list[Package] = field(default_factory=list)  # flattened; itself when no composite
    deltas: list[DeltaView] = field(default_factory=list)

    @property
    def operation(self) -> Operation:
        if self.package is None:
            return Operation.DESTROY
        return Operation.MODIFY if self.record else Operation.CREATE

    @property
    def title(self) -> str:
        shown = self.package or (self.record.package if self.record else None)
        return shown.title if shown else self.application.name


class Comparison:
    """Finds the deltas of the applications of a deployment, and collects what is wrong.

    `mapping` of the user is deployable → paths; `force` makes NOOP a removal and a new start.
    """

    def __init__(
        self,
        environment: Environment,
        sites: Mapping[str, Site],
        values: Sequence[Dictionary],
        *,
        mapping: Mapping[str, Sequence[str]] | None = None,
        force: bool = False,
    ) -> None:
        self.environment = environment
        self.sites = sites
        self.values = values
        self.chosen = mapping
        self.force = force
        self.mapping: dict[str, list[str]] = {}
        self.missing: dict[str, set[str]] = {}  # key → where it is wanted
        self.wrong: list[Problem] = []
        self.unmapped: list[str] = []
        self._taken: set[tuple[str, str]] = set()
        self._found: dict[tuple[Any, Any, str], dict[str, DictionaryEntry]] = {}

    def compare(self, wanted: Wanted) -> None:
        """Find the deltas of one application, in delta order."""
        before = {
            (row.name, row.container): row
            for row in (wanted.record.deployeds.all() if wanted.record else ())
        }
        position = 0
        for member in wanted.members:
            for deployable in member.deployables.all():
                for path in self._containers(deployable, wanted):
                    row = before.pop((deployable.name, path), None)
                    new = self._value(deployable, member, path, wanted, row, position)
                    wanted.deltas.append(self._delta(wanted, deployable.name, path, row, new))
                    position += 1
        # What goes keeps the order in which it came, behind what stays.
        for row in before.values():
            wanted.deltas.append(self._delta(wanted, row.name, row.container, row, None))

    def _containers(self, deployable: Deployable, wanted: Wanted) -> list[str]:
        found = mapped(deployable, self.sites)
        if self.chosen is not None and deployable.name in self.chosen and not wanted.as_dependency:
            kind = types.TYPES[deployable.type]
            found = []
            for path in dict.fromkeys(self.chosen[deployable.name]):
                site = self.sites.get(path)
                if site is None:
                    text = f"{path} is not a member of {self.environment}."
                    self.wrong.append(Problem(("mapping", deployable.name), text))
                elif site.kind not in kind.on:
                    text = f"A {kind.name} does not go to the {site.kind} {site.container.name}."
                    self.wrong.append(Problem(("mapping", deployable.name), text))
                else:
                    found.append(path)
            found.sort(key=lambda path: self.sites[path].container.place)
        name = deployable.name
        if taken := [path for path in found if (name, path) in self._taken]:
            text = (
                f"Two deployables named {name} go to"
                f" {self.sites[taken[0]].container.name}; rename one, or map them apart."
            )
            self.wrong.append(Problem(("mapping", name), text))
        self._taken |= {(name, path) for path in found}
        self.mapping[name] = [*self.mapping.get(name, []), *found]
        if not found:
            self.unmapped.append(deployable.name)
        return found

    def _delta(
        self,
        wanted: Wanted,
        name: str,
        path: str,
        row: Deployed | None,
        new: Value | None,
    ) -> DeltaView:
        old = Value.from_json(row.value) if row else None
        site = self.sites.get(path)
        shown = site.container.name if site else (row.container_name if row else path)
        made = DeltaView(
            wanted.application.name,
            name,
            path,
            shown,
            Operation.NOOP,
            old,
            new,
            created_vm=created_vm(row),
        )
        if old is None:
            return replace(made, operation=Operation.CREATE)
        if new is None:
            return replace(made, operation=Operation.DESTROY)
        if made.differences or (new.type == "vm" and not made.created_vm):
            return replace(made, operation=Operation.MODIFY)
        if self.force:
            return replace(made, operation=Operation.MODIFY, forced=True)
        return made

    # Values -------------------------------------------------------------------------------------

    def _value(
        self,
        deployable: Deployable,
        member: Package,
        path: str,
        wanted: Wanted,
        row: Deployed | None,
        position: int,
    ) -> Value:
        site, kind = self.sites[path], types.TYPES[deployable.type]
        resolver = dictionaries.Resolver(
            self._entries(wanted.application, member.application, path),
            self.builtin(wanted, deployable.name, site),
        )
        where = f"{deployable.name} on {site.container.name}"
        properties = typed(kind.properties, resolver.resolved(deployable.properties))
        if kind.artifact and properties.pop("placeholders", False) and deployable.artifact:
            properties["placeholders"] = True
            properties["replaced"] = {
                key: found
                for key in self._keys(deployable)
                if (found := resolver.value(key)) is not None
            }
        for key in resolver.missing:
            self.missing.setdefault(key, set()).add(where)
        if not resolver.missing:
            self._check(kind, properties, where)
        if kind.name == "vm":
            properties["vm_name"] = slug(str(properties["vm_name"]), 63)
        if kind.name == "state":
            properties["before"] = self._before(site, row)
        return Value(
            kind.name,
            properties,
            tuple(deployable.tags),
            deployable.artifact.sha256 if deployable.artifact else "",
            deployable.file_name,
            dict(sorted(resolver.secrets.items())),
            member.application.name if member.pk != getattr(wanted.package, "pk", None) else "",
            position,
        )

    def _entries(
        self, application: Application, member: Application, path: str
    ) -> dict[str, DictionaryEntry]:
        """Return the entries that count there; asked for by each deployable of a container."""
        key = (application.pk, member.pk, path)
        if key not in self._found:
            found = dictionaries.entries_for(self.values, (application, member), path)
            self._found[key] = found
        return self._found[key]

    def _check(self, kind: types.DeployableType, properties: dict[str, Any], where: str) -> None:
        plain = {name: one for name, one in properties.items() if name in kind.properties}
        found = problems(kind.properties, plain)
        if not found and kind.check:
            found = kind.check(plain, ())
        self.wrong += [Problem((where, *problem.path), problem.text) for problem in found]

    def _keys(self, deployable: Deployable) -> list[str]:
        assert deployable.artifact is not None
        with artifacts.opened(deployable.artifact) as stream:
            text = stream.read(packages.LARGEST_SCANNED).decode(errors="replace")
        return sorted({match[1] for match in PLACEHOLDER.finditer(text)})

    def _before(self, site: Site, row: Deployed | None) -> str:
        """Return the state that a VM had before its state was first deployed."""
        if row and "before" in row.value["properties"]:
            return str(row.value["properties"]["before"])
        state = site.vm.state if site.vm else ""
        return state if state in (State.RUNNING, State.STOPPED, State.SUSPENDED) else ""

    def builtin(
        self, wanted: Wanted, deployed: str = "", site: Site | None = None
    ) -> dict[str, str]:
        """Return the placeholders that need no dictionary; dictionaries win over them."""
        found = {
            "environment.name": self.environment.name,
            "application.name": wanted.application.name,
            "application.version": wanted.package.version if wanted.package else "",
        }
        if site:
            found |= {
                "deployed.name": deployed,
                "container.name": site.container.name,
                "container.host": site.container.host or "",
                "container.ip_address": site.vm.ip_address if site.vm else "",
            }
        return found

    # Refusals -----------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Raise `Invalid` for all that was found wrong."""
        if self.missing:
            keys = sorted(self.missing)
            told = "; ".join(
                f"{{{{{key}}}}} ({', '.join(sorted(self.missing[key])[:3])})" for key in keys[:10]
            )
            more = f" and {len(keys) - 10} more" if len(keys) > 10 else ""
            raise Invalid(
                f"These placeholders have no value on {self.environment}: {told}{more}."
                " Put them into a dictionary of the environment.",
                code="placeholder_without_value",
                errors={"placeholders": keys},
            )
        refuse(self.wrong)


def refuse_taken(environment: Environment, deltas: Iterable[DeltaView], own: set[Any]) -> None:
    """Raise `Conflict` when another application has something of the same name on a container."""
    made = {delta.key for delta in deltas if delta.operation is Operation.CREATE}
    if not made:
        return
    others = (
        Deployed.objects.filter(environment=environment, name__in={name for name, _ in made})
        .exclude(deployed_application__in=own)
        .select_related("deployed_application__package__application")
    )
    for row in others:
        if (row.name, row.container) in made:
            raise Conflict(
                f"{row.deployed_application.package} has a {row.name} on {row.container_name}"
                " already. Rename the deployable, or take that container out of the mapping.",
                code="name_taken",
            )


def typed(schema: Mapping[str, Field], properties: dict[str, Any]) -> dict[str, Any]:
    """Return properties with numbers and flags that came from placeholders as what they are."""
    found = dict(properties)
    for name, one in schema.items():
        value = found.get(name)
        if not isinstance(value, str):
            continue
        if one.kind in ("integer", "share") and value.strip().lstrip("-").isdigit():
            found[name] = int(value)
        elif one.kind == "flag" and value.strip().lower() in ("true", "false"):
            found[name] = value.strip().lower() == "true"
    return found


def created_vm(row: Deployed | None) -> str:
    """Return the id of the VM that a deployed made, if it is still there."""
    vm = row.created_vm if row else None
    return str(vm.pk) if vm and not vm.is_final else ""
