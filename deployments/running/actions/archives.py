"""Steps that unpack archives in guests, and take away what they brought."""

from __future__ import annotations

import shlex
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from deployments import artifacts, unpacking
from deployments.models import Artifact
from deployments.running.actions.files import Content, Write, artifact_of, as_it_is

if TYPE_CHECKING:
    from uuid import UUID


class Unpack(Write):
    """`vm.unpack`: an archive goes into the guest as it is, and is unpacked when it is whole."""

    def resumes(self, action: dict[str, Any]) -> str:
        return str(action["sha256"])

    def part(self, action: dict[str, Any]) -> str:
        return f"{_folder(action)}.part"

    def content(self, action: dict[str, Any]) -> Content:
        return as_it_is(artifact_of(action))

    def placed(self, action: dict[str, Any], content: Content) -> list[tuple[str, str]]:
        part, folder = shlex.quote(self.part(action)), shlex.quote(_folder(action) or "/")
        into = f"mkdir -p {folder} && "
        if _contents(action).kind == unpacking.ZIP:
            # The tar of macOS reads zips, too; and where there is no unzip there may be a Python.
            tools = f"unzip -oq {part} -d {folder} || tar -xf {part} -C {folder}"
            return [
                (f"{into}{tools} || python3 -m zipfile -e {part} {folder}", ""),
                (f"rm -f {part}", ""),
            ]
        return [(f"{into}tar -xof {part} -C {folder}", ""), (f"rm -f {part}", "")]

    def reached(self, action: dict[str, Any], content: Content) -> str:
        count = len(_contents(action).files)
        return f"{count} files in {action['path']}, of the archive {content.sha256}."


class RemoveUnpacked(Write):
    """`vm.remove_unpacked`: the files that an archive brought, and its folders if they are empty.

    Their list goes into the guest as a file, as there may be more of them than a command holds.
    """

    def part(self, action: dict[str, Any]) -> str:
        return f"{_folder(action)}.gone"

    def content(self, action: dict[str, Any]) -> Content:
        return Content.of(b"".join(self._lists(action)))

    def _lists(self, action: dict[str, Any]) -> tuple[bytes, bytes]:
        found = _contents(action)
        files, folders = (
            "".join(f"{_folder(action)}/{path}\0" for path in paths).encode()
            for paths in (found.files, found.folders)
        )
        return files, folders

    def placed(self, action: dict[str, Any], content: Content) -> list[tuple[str, str]]:
        part, files = shlex.quote(self.part(action)), len(self._lists(action)[0])
        return [
            (f"head -c {files} {part} | xargs -0 rm -f --", ""),
            # One that has something else in it stays.
            (f"tail -c +{files + 1} {part} | xargs -0 rmdir 2>/dev/null ; true", ""),
            (f"rm -f {part}", ""),
        ]

    def reached(self, action: dict[str, Any], content: Content) -> str:
        return f"{len(_contents(action).files)} files are gone from {action['path']}."


def _folder(action: dict[str, Any]) -> str:
    """Return the folder without a slash at its end; empty for the root."""
    return str(action["path"]).rstrip("/")


def _contents(action: dict[str, Any]) -> unpacking.Contents:
    return _looked_into(artifact_of(action).pk)


@lru_cache(maxsize=16)
def _looked_into(pk: UUID) -> unpacking.Contents:
    """Return what an archive brings; an artifact never changes, and many pieces ask."""
    with artifacts.opened(Artifact.objects.get(pk=pk)) as stream:
        return unpacking.contents(stream)
