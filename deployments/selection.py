"""Which applications a deployment touches: the chosen one, what it needs, what may go with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deployments import packages
from deployments.deltas import Wanted
from deployments.models import DeployedApplication, Package
from deployments.resolution import EXISTING, LATEST, Search, Unmet
from deployments.versions import range_of
from orchestrator.refusals import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from deployments.models import Application, Environment

STRATEGIES = (LATEST, EXISTING)
Records = dict[str, DeployedApplication]  # by lower-case name of the application


def records_of(environment: Environment) -> Records:
    """Return what is deployed on an environment."""
    rows = (
        environment.deployed_applications.select_related("application", "package__application")
        .prefetch_related("deployeds__created_vm", "package__parts")
        .order_by("id")
    )
    return {row.application.name.lower(): row for row in rows}


class _Shelf:
    """The versions of applications, read when they are asked for."""

    def versions(self, name: str) -> Sequence[Package]:
        return list(
            Package.objects.whole().filter(application__name__iexact=name, parts__isnull=True)
        )


def to_deploy(
    package: Package, records: Records, *, strategy: str = LATEST
) -> tuple[list[Wanted], dict[str, Package]]:
    """Return what is wanted, needed applications first, and all versions that take part.

    An application that is there in the version that is needed is not touched. Raises `Invalid` or
    `Conflict` when the ranges cannot be met.
    """
    if strategy not in STRATEGIES:
        raise Invalid.field("resolution", f"Give one of {', '.join(STRATEGIES)}.")
    name = package.application.name.lower()
    taking_part = {name: package}
    if not packages.is_composite(package):
        # A composite can neither need nor be needed: the check leaves it out.
        installed = {
            key: row.package for key, row in records.items() if not row.package.parts.all()
        }
        search = Search(_Shelf(), installed, strategy)
        try:
            taking_part = search.around(package)
        except Unmet as unmet:
            raise Conflict(
                f"{unmet} Import or deploy a version that fits, or change the range.",
                code="dependency_unmet",
            ) from None
        _refuse_broken(taking_part, records)
    wanted = []
    for key, one in reversed(taking_part.items()):
        record = records.get(key)
        if key != name and record and record.package_id == one.pk:
            continue
        wanted.append(
            Wanted(
                one.application,
                one,
                record,
                as_dependency=key != name,
                members=packages.flattened(one)[0],
            )
        )
    return wanted, taking_part


def _refuse_broken(taking_part: dict[str, Package], records: Records) -> None:
    """Refuse versions that what is deployed already cannot work with."""
    for key, record in records.items():
        if key in taking_part:
            continue
        for needed, text in record.package.dependencies.items():
            new = taking_part.get(needed.lower())
            if new and new.version not in range_of(text):
                raise Conflict(
                    f"{record.package} on {record.environment} needs {needed} {text}, so that"
                    f" {new} cannot come. Update {record.application} first.",
                    code="dependency_unmet",
                )


def to_undeploy(
    application: Application,
    environment: Environment,
    records: Records,
    *,
    with_dependencies: bool = False,
) -> tuple[list[Wanted], dict[str, Package]]:
    """Return what goes: the application first, then what only it needed, if that is asked for.

    Raises `NotFound`, and `Conflict` when something else depends on it.
    """
    name = application.name.lower()
    record = records.get(name)
    if record is None:
        raise NotFound(f"{application} is not deployed on {environment}.")
    if others := _dependants(name, records, {name}):
        raise Conflict(
            f"{', '.join(str(row.package) for row in others)} on {environment}"
            f" need{'s' * (len(others) == 1)} {application}. Undeploy"
            f" {'it' if len(others) == 1 else 'them'} first.",
            code="needed_by_others",
        )
    going = {name: record}
    if with_dependencies:
        grown = True
        while grown:
            grown = False
            for row in [*going.values()]:
                for needed in row.package.dependencies:
                    key = needed.lower()
                    there = records.get(key)
                    if key in going or there is None or not there.as_dependency:
                        continue
                    if not _dependants(key, records, {*going, key}):
                        going[key] = there
                        grown = True
    wanted = [
        Wanted(row.application, None, row, as_dependency=key != name) for key, row in going.items()
    ]
    return wanted, {key: row.package for key, row in going.items()}


def _dependants(name: str, records: Records, but: set[str]) -> list[DeployedApplication]:
    return [
        row
        for key, row in records.items()
        if key not in but and name in {needed.lower() for needed in row.package.dependencies}
    ]
