"""What an archive brings, and what of it is refused before it comes near a guest."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import Any

import pytest

from deployments import unpacking
from orchestrator.refusals import Invalid


def tar(*members: tuple[str, dict[str, Any]] | str, mode: str = "w") -> io.BytesIO:
    """Return a tar; a member is the name of a file, or a name with fields of its header."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as file:  # type: ignore[call-overload]
        for member in members:
            name, fields = (member, {}) if isinstance(member, str) else member
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            content = b"content" if info.isreg() else b""
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    stream.seek(0)
    return stream


def zipped(**members: str) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    stream.seek(0)
    return stream


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> dict[str, Any]:
    return {"type": kind, "linkname": target}


FOLDER: dict[str, Any] = {"type": tarfile.DIRTYPE}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_of_any_packing(mode: str) -> None:
    members: list[Any] = [("./", FOLDER), ("bin", FOLDER), "bin/shop", "etc/shop/shop.conf"]
    members += [("bin/same", link("bin/shop", tarfile.LNKTYPE)), ("lib/so", link("../bin/shop"))]
    found = unpacking.contents(tar(*members, mode=mode))
    assert found.kind == unpacking.TAR
    assert found.files == ("bin/shop", "etc/shop/shop.conf", "bin/same", "lib/so")
    assert found.folders == ("etc/shop", "bin", "etc", "lib")


def test_a_zip() -> None:
    found = unpacking.contents(zipped(**{"a/b/c.txt": "c", "d/": "", "e": ""}))
    assert found == unpacking.Contents("zip", ("a/b/c.txt", "e"), ("a/b", "a", "d"))


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("../x", "paths stay inside"),
        ("a/../../x", "paths stay inside"),
        ("/etc/passwd", "paths stay inside"),
        ("C:/x", "paths stay inside"),
        ("a\\..\\x", "paths stay inside"),
        ("a\nb", "one line of text"),
        (("x", link("/etc")), "out of its folder"),
        (("x", link("..")), "out of its folder"),
        (("a/x", link("../../y")), "out of its folder"),
        # It goes down a link, and from there up: nobody knows where that is.
        (("x", link("a/../../y")), "out of its folder"),
        (("x", link("gone", tarfile.LNKTYPE)), "a link to what is not in it"),
        (("x", link("../y", tarfile.LNKTYPE)), "paths stay inside"),
        (("x", {"type": tarfile.CHRTYPE}), "no file, folder or link"),
        (("x", {"type": tarfile.FIFOTYPE}), "no file, folder or link"),
    ],
)
def test_what_leads_out_is_refused(member: Any, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        unpacking.contents(tar("a/fine", member))


def test_nothing_lies_beneath_a_link_nor_replaces_one() -> None:
    beneath = tar("a/fine", ("b", link("a")), "b/x")
    with pytest.raises(Invalid, match="beneath a link"):
        unpacking.contents(beneath)
    with pytest.raises(Invalid, match="twice, once as a link"):
        unpacking.contents(tar("a/fine", ("b", link("a")), "b"))
    with pytest.raises(Invalid, match="twice, once as a link"):
        unpacking.contents(tar("b", ("b", link("a"))))


def test_a_link_in_a_zip_is_looked_at_too() -> None:
    stream = io.BytesIO()
    info = zipfile.ZipInfo("x")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(info, "../../etc")
    stream.seek(0)
    with pytest.raises(Invalid, match="out of its folder"):
        unpacking.contents(stream)


def test_what_is_no_archive_or_too_much_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tar("a", "b", mode="w:gz").getvalue()
    for broken in (b"hello", b"PK\x03\x04no", whole[: len(whole) // 2], b""):
        with pytest.raises(Invalid, match="no zip and no tar"):
            unpacking.contents(io.BytesIO(broken))
    monkeypatch.setattr(unpacking, "MOST_ENTRIES", 2)
    with pytest.raises(Invalid, match="more than 2 entries"):
        unpacking.contents(tar("a", "b", "c"))
    monkeypatch.setattr(unpacking, "LARGEST", 10)
    with pytest.raises(Invalid, match="unpacks to more than"):
        unpacking.contents(tar("a", "b"))
    # A header that would fill the memory before any limit is looked at.
    monkeypatch.setattr(unpacking, "LONGEST_READ", 4096)
    with pytest.raises(Invalid, match="A header in the tar is larger"):
        unpacking.contents(tar("x" * 10_000))
