"""Packages: made from documents, imported, exported, deleted."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from accounts.audit import audit, changed
from deployments import archives, artifacts, documents, types
from deployments.documents import Lines
from deployments.models import Application, Artifact, Deployable, Package, PackageMember
from deployments.schemas import Path, Problem, filled
from events.publishing import publish
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from accounts.actors import Actor

SPOOL = 4 * 1024 * 1024  # bytes of an export kept in memory; more goes to a file
LARGEST_SCANNED = 1024 * 1024  # bytes of a file in which placeholders are replaced

Opener = Callable[[str], AbstractContextManager[BinaryIO]]


def import_package(actor: Actor, stream: BinaryIO) -> Package:
    """Make a package from a zip or a YAML file. Raises `Invalid` with lines, `Conflict`."""
    actor.require("deployments.manage")
    start = stream.read(4)
    stream.seek(0)
    if archives.is_zip(start):
        with archives.opened(stream) as archive:
            document, lines = documents.read_yaml(archive.document())
            return create_package(actor, document, opener=archive.opened, lines=lines)
    document, lines = documents.read_yaml(stream.read(documents.LARGEST + 1))
    return create_package(actor, document, lines=lines)


def create_package(
    actor: Actor, document: Any, *, opener: Opener | None = None, lines: Lines | None = None
) -> Package:
    """Make the version that a document describes, and its application if it is new.

    `opener` gives the files that it names; `lines` tell where its parts are in a file. Raises
    `Forbidden`, `Invalid` with all that is wrong, `Conflict` when the version is there.
    """
    actor.require("deployments.manage")
    documents.refuse(documents.check(document), lines)
    title = (document["application"], document["version"])
    _refuse_existing(*title)
    members = _members(document, lines)
    needs = document.get("dependencies") or {}
    # Files are kept before the transaction: they may take long, and unused ones are swept.
    kept = _artifacts(document, opener, lines)
    with transaction.atomic():
        actor.take()
        actor.require("deployments.manage")
        application = _application(title[0])
        try:
            with transaction.atomic():
                package = Package.objects.create(
                    application=application,
                    version=title[1],
                    description=document.get("description") or "",
                    orchestrators=document.get("orchestrators") or [],
                    dependencies={name: str(text) for name, text in needs.items()},
                    policy=document.get("policy") or {},
                    created_by=actor.user,
                )
        except IntegrityError:
            raise _exists(*title) from None
        PackageMember.objects.bulk_create(
            PackageMember(composite=package, member=member, position=position)
            for position, member in enumerate(members)
        )
        Deployable.objects.bulk_create(
            _deployable(package, number, one, kept.get(number))
            for number, one in enumerate(document.get("deployables") or [])
        )
        told = {
            "deployables": package.deployables.count(),
            "members": [member.title for member in members],
        }
        audit(actor, "package.created", package.subject, package.title, data=told)
        announce(package)
    return package


def _refuse_existing(application: str, version: str) -> None:
    if Package.objects.filter(application__name__iexact=application, version=version).exists():
        raise _exists(application, version)


def _exists(application: str, version: str) -> Conflict:
    return Conflict(
        f"{application} {version} exists and stays as it is. Give the package another version.",
        code="version_exists",
        errors={"version": ["This version exists."]},
    )


def _application(name: str) -> Application:
    found = Application.objects.filter(name__iexact=name).first()
    if found:
        return found
    try:
        with transaction.atomic():
            return Application.objects.create(name=name)
    except IntegrityError:  # somebody made it just now
        return Application.objects.get(name__iexact=name)


def _members(document: Mapping[str, Any], lines: Lines | None) -> list[Package]:
    found: list[Package] = []
    wrong: list[Problem] = []
    for number, one in enumerate(document.get("packages") or []):
        member = Package.objects.filter(
            application__name__iexact=one["application"], version=one["version"]
        ).first()
        if member is None:
            text = f"There is no package {one['application']} {one['version']}; import it first."
            wrong.append(Problem(("packages", number), text))
        else:
            found.append(member)
    documents.refuse(wrong, lines)
    return found


def _artifacts(
    document: Mapping[str, Any], opener: Opener | None, lines: Lines | None
) -> dict[int, Artifact]:
    """Return the artifacts of the deployables that carry a file, by their place."""
    kept: dict[int, Artifact] = {}
    wrong: list[Problem] = []
    for number, one in enumerate(document.get("deployables") or []):
        kind = types.TYPES[one["type"]]
        if not kind.artifact:
            continue
        at: Path = ("deployables", number)
        if one.get("content"):
            kept[number] = artifacts.store(io.BytesIO(one["content"].encode()))
        elif one.get("file"):
            if opener is None:
                text = "This names a file of a zip; import a zip, or give content or sha256."
                wrong.append(Problem((*at, "file"), text))
                continue
            try:
                with opener(one["file"]) as stream:
                    kept[number] = artifacts.store(stream)
            except Invalid as refusal:
                wrong.append(Problem((*at, "file"), refusal.message))
                continue
            if one.get("sha256") and one["sha256"] != kept[number].sha256:
                text = f"The file's SHA-256 is {kept[number].sha256}, not this."
                wrong.append(Problem((*at, "sha256"), text))
        elif found := Artifact.objects.filter(sha256=one["sha256"]).first():
            kept[number] = found
        else:
            text = "There is no artifact with this SHA-256; upload it first."
            wrong.append(Problem((*at, "sha256"), text))
        properties = one.get("properties") or {}
        if number in kept and properties.get("placeholders") is True:
            wrong += _unscannable(kept[number], at)
        if number in kept and kind.look:
            try:
                with artifacts.opened(kept[number]) as stream:
                    kind.look(stream)
            except Invalid as refusal:
                wrong.append(
                    Problem((*at, "file" if one.get("file") else "sha256"), refusal.message)
                )
    documents.refuse(wrong, lines)
    return kept


def _unscannable(artifact: Artifact, at: Path) -> list[Problem]:
    text = "Placeholders are replaced in text files of at most 1 MiB; this is none."
    if artifact.size > LARGEST_SCANNED:
        return [Problem((*at, "properties", "placeholders"), text)]
    with artifacts.opened(artifact) as stream:
        try:
            stream.read().decode()
        except UnicodeDecodeError:
            return [Problem((*at, "properties", "placeholders"), text)]
    return []


def _deployable(
    package: Package, position: int, one: Mapping[str, Any], artifact: Artifact | None
) -> Deployable:
    kind = types.TYPES[one["type"]]
    return Deployable(
        package=package,
        name=one["name"],
        type=kind.name,
        position=position,
        properties=filled(kind.properties, one.get("properties") or {}),
        tags=list(dict.fromkeys(one.get("tags") or [])),
        artifact=artifact,
        file_name=(one.get("file") or "").rpartition("/")[2] if artifact else "",
    )


def copy_package(
    actor: Actor, package: Package, *, version: str, policy: Mapping[str, Any]
) -> Package:
    """Make another version that holds the same and is rolled out by another policy.

    A version never changes, so a new policy is a new version. Raises as `create_package`.
    """
    document = {**document_of(package), "version": version, "policy": dict(policy)}
    return create_package(actor, document)


def document_of(package: Package, *, files: bool = False) -> dict[str, Any]:
    """Return the document that makes this package again; with `files` as its zip has it."""
    found: dict[str, Any] = {
        "application": package.application.name,
        "version": package.version,
        "description": package.description,
        "orchestrators": package.orchestrators,
        "dependencies": package.dependencies,
        "policy": package.policy,
        "packages": [
            {"application": part.member.application.name, "version": part.member.version}
            for part in package.parts.all()
        ],
        "deployables": [_described(one, files) for one in package.deployables.all()],
    }
    return {name: value for name, value in found.items() if value not in ("", [], {})}


def _described(one: Deployable, files: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": one.name, "type": one.type}
    if one.tags:
        found["tags"] = one.tags
    if one.artifact:
        if files:
            found["file"] = entry_of(one)
        found["sha256"] = one.artifact.sha256
    if one.properties:
        found["properties"] = one.properties
    return found


def entry_of(one: Deployable) -> str:
    """Return where the file of a deployable lies in a zip."""
    return f"files/{one.position}/{one.file_name or one.name}"


def export(package: Package) -> IO[bytes]:
    """Return the package as a zip, at its start. Raises `Conflict` when a file is lost."""
    target = tempfile.SpooledTemporaryFile(max_size=SPOOL)  # noqa: SIM115 (the caller closes it)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as file:
        file.writestr(archives.DOCUMENT, documents.write_yaml(document_of(package, files=True)))
        for one in package.deployables.all():
            if one.artifact is None:
                continue
            with artifacts.opened(one.artifact) as source, file.open(entry_of(one), "w") as entry:
                while piece := source.read(artifacts.PIECE):
                    entry.write(piece)
    target.seek(0)
    return cast("IO[bytes]", target)


def delete_package(actor: Actor, package: Package) -> None:
    """Delete a version that is nowhere deployed and in no composite. Raises `Conflict`."""
    actor.require("deployments.manage")
    with transaction.atomic():
        actor.take()
        where = package.deployed_applications.select_related("environment").first()
        if where:
            raise Conflict(f"{package} is deployed on {where.environment}; undeploy it first.")
        part = package.part_of.select_related("composite__application").first()
        if part:
            raise Conflict(f"{package} is part of {part.composite}; delete that first.")
        audit(actor, "package.deleted", package.subject, package.title)
        announce(package)
        try:
            package.delete()
        except ProtectedError:
            raise Conflict(f"{package} is still used by a deployment.") from None


def delete_application(actor: Actor, application: Application) -> None:
    """Delete an application that has no version left. Raises `Conflict`."""
    actor.require("deployments.manage")
    with transaction.atomic():
        actor.take()
        if application.packages.exists():
            raise Conflict(f"{application} has versions; delete them first.")
        audit(actor, "application.deleted", application.subject, application.name)
        application.delete()


def describe_application(
    actor: Actor, application: Application, *, description: str
) -> Application:
    """Change what is said about an application."""
    actor.require("deployments.manage")
    with transaction.atomic():
        actor.take()
        told = changed({"description": application.description}, {"description": description})
        application.description = description
        application.save(update_fields=["description"])
        audit(actor, "application.changed", application.subject, application.name, data=told)
    return application


def flattened(package: Package) -> tuple[list[Package], list[Package]]:
    """Return the members of a composite, depth first and in place, and those that came again.

    The first of each counts. A package that is no composite is its own only member.
    """
    found: dict[Any, Package] = {}
    again: list[Package] = []
    stack: list[Package] = [package]
    while stack:
        one = stack.pop()
        members = [part.member for part in one.parts.select_related("member__application").all()]
        if members:
            stack.extend(reversed(members))
        elif one.pk in found:
            again.append(one)
        else:
            found[one.pk] = one
    return list(found.values()), again


def is_composite(package: Package) -> bool:
    return bool(package.parts.all())


def announce(package: Package) -> None:
    """Publish that a package came or went."""
    publish(
        "package.changed",
        package.subject,
        {"name": package.title},
        permission="deployments.view",
    )
