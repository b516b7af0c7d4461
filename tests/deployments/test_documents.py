"""What goes in: versions and ranges, the search for them, YAML with lines, zips, artifacts."""

from __future__ import annotations

import io
import itertools
import stat
import zipfile
from dataclasses import dataclass, field

import pytest

from deployments import archives, artifacts, documents
from deployments.models import Artifact
from deployments.resolution import EXISTING, Search, Unmet
from deployments.versions import parsed, range_of
from orchestrator.refusals import Conflict, Invalid


def test_versions_are_ordered_as_semver_has_it():
    ordered = [
        *("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"),
        *("1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "1.10", "2", "2.0.0.1"),
    ]
    versions = [parsed(text) for text in ordered]
    assert None not in versions
    assert all(one < two for one, two in itertools.pairwise(versions))
    assert parsed("1.2") == parsed("1.2.0+build.7")
    assert [parsed(text) for text in ("", "v1", "1.x", "1.2.3.4.5", "-1", "latest")] == [None] * 6


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("[1.0,2.0)", ["1.0", "1.9.9", "2.0-rc.1"], ["0.9", "2.0", "1.0-rc.1", "no version"]),
        ("(1.0,2.0]", ["1.0.1", "2.0"], ["1.0", "2.0.1"]),
        ("[1.5,)", ["1.5", "99"], ["1.4"]),
        ("(,2)", ["0.1", "1.99"], ["2.0"]),
        ("[1.0]", ["1", "1.0.0"], ["1.0.1"]),
        ("1.2", ["1.2.0"], ["1.2.1", "1.1"]),
        (" [ 1.0 , 2.0 ) ", ["1.5"], ["2.0"]),
    ],
)
def test_ranges_hold_what_is_between(text, inside, outside):
    found = range_of(text)
    assert [version for version in inside if version not in found] == []
    assert [version for version in outside if version in found] == []


@pytest.mark.parametrize(
    "text", ["", "[1.0", "[2.0,1.0)", "(1.0)", "[a,b]", "[1,2,3]", "(1,1)", "~1"]
)
def test_what_is_no_range_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match=r"range|version|Nothing"):
        range_of(text)


@dataclass
class Known:
    application_name: str
    version: str
    dependencies: dict = field(default_factory=dict)


class Shelf:
    def __init__(self, *known):
        self.known = known

    def versions(self, name):
        return [one for one in self.known if one.application_name.lower() == name]


def test_the_search_goes_back_when_the_newest_does_not_fit_with_others():
    shelf = Shelf(
        Known("B", "1.0", {"C": "[1.0,2.0)"}),
        Known("B", "2.0", {"C": "[2.0,3.0)"}),
        Known("C", "1.5"),
        Known("C", "2.5"),
        Known("C", "odd"),
    )
    root = Known("A", "1.0", {"B": "[1.0,)", "c": "[1.0,2.0)"})
    found = Search(shelf, {}).around(root)
    assert {name: one.version for name, one in found.items()} == {
        "a": "1.0",
        "b": "1.0",
        "c": "1.5",
    }
    free = Known("A", "1.0", {"C": "[1.0,)"})
    assert Search(shelf, {}).around(free)["c"].version == "2.5"
    there = {"c": Known("C", "1.5")}
    assert Search(shelf, there, EXISTING).around(free)["c"].version == "1.5"
    with pytest.raises(Unmet, match=r"A 1\.0 needs D \[1\.0\], and there is no such version"):
        Search(shelf, {}).around(Known("A", "1.0", {"D": "[1.0]"}))
    with pytest.raises(Unmet, match="needs"):
        Search(shelf, {}).around(Known("A", "1.0", {"B": "[2.0,)", "C": "[1.0,2.0)"}))


def refusal_of(text):
    with pytest.raises(Invalid) as refusal:
        document, lines = documents.read_yaml(text.encode())
        documents.refuse(documents.check(document), lines)
    return refusal.value


GOOD = """application: Shop
version: 1.10
dependencies:
  Base: "[1.0,2.0)"
deployables:
  - name: app
    type: file
    content: hello
    properties:
      path: /opt/app
      mode: 0644
  - name: look
    type: check
    properties: {probe: port, port: "{{port}}"}
"""


def test_a_good_document_is_read_as_it_is_meant():
    document, lines = documents.read_yaml(GOOD.encode())
    assert documents.check(document) == []
    assert document["version"] == "1.10"  # no number
    assert document["deployables"][0]["properties"]["mode"] == "0644"
    assert lines["deployables", 1, "properties", "port"] == 14
    again, _ = documents.read_yaml(documents.write_yaml(document).encode())
    assert again == document


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("type: file", "type: fail"), "Line 7: Give one of vm, file"),
        (("path: /opt/app", "path: opt"), "Line 10: Give a whole path"),
        (("path: /opt/app", "pfad: /opt"), "Line 10: There is no “pfad” here"),
        (("      path: /opt/app\n", ""), "Line 9: Give “path”"),
        (("name: look", "name: app"), "Line 12: There are two named app"),
        (("[1.0,2.0)", "[2.0,1.0)"), "Line 4: Nothing is in"),
        (("probe: port, ", ""), "Line 14: Give “probe”: one of port, http"),
        (('port: "{{port}}"', "port: 70000"), "Line 14: Give a number from 1 to 65535"),
        (('port: "{{port}}"', ""), "The probe port needs “port”"),
        (("version: 1.10", "version: 1.10\nversion: 2"), "Line 3: “version” is given twice"),
        (("content: hello", "content: &x hello"), "Line 8: Anchors and aliases"),
        (("content: hello", "content: !!python/name:os.system"), "Line 8: Tags of YAML"),
        (("content: hello", "content: [a"), "This is no YAML"),
        (("content: hello", "content: '{{secret:x/y}}'"), "references to secrets are ours"),
        (("    content: hello\n", ""), "Line 6: A file needs one of"),
        (("application: Shop", "application: ../x"), "Line 1: Use 1 to 100 letters"),
        (("application: Shop", "application: [Shop]"), "Line 1: This is a list; give a text"),
        (("application: Shop", "application: Shop\npackages: [{application: A, version: 1}]"),
         "A composite has packages only"),
        (("application: Shop", "application: Shop\npolicy: {gate: {probe: http}}"),
         "The probe http needs “port”"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(change, told):
    text = GOOD.replace(*change)
    assert text != GOOD
    assert told in refusal_of(text).message


def test_hostile_yaml_is_refused():
    assert "nested too deeply" in refusal_of("[" * 5000 + "]" * 5000).message
    assert "nested too deeply" in refusal_of("a: " + "{b: " * 40 + "1" + "}" * 40).message
    assert "larger than" in refusal_of("#" * (documents.LARGEST + 1)).message
    assert "empty" in refusal_of("").message
    assert "give keys with values" in refusal_of("- a list").message
    with pytest.raises(Invalid, match="not UTF-8"):
        documents.read_yaml(b"\xff\xfe\xff")


def zipped(entries, mode=None):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if mode and name != archives.DOCUMENT:
                info.external_attr = mode << 16
            archive.writestr(info, content)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize(
    ("entries", "mode", "told"),
    [
        ({"package.yml": "", "../evil": "x"}, None, "stay inside"),
        ({"package.yml": "", "/etc/passwd": "x"}, None, "stay inside"),
        ({"package.yml": "", "a/../../b": "x"}, None, "stay inside"),
        ({"package.yml": "", "C:\\x": "x"}, None, "stay inside"),
        ({"package.yml": "", "link": "/etc/passwd"}, stat.S_IFLNK | 0o777, "is a link"),
        ({"package.yml": "", "bomb": b"\0" * 40_000_000}, None, "far more than it is"),
        ({"other.yml": ""}, None, "There is no package.yml"),
    ],
)
def test_hostile_zips_are_refused_before_anything_is_unpacked(entries, mode, told):
    with pytest.raises(Invalid, match=told), archives.opened(zipped(entries, mode)):
        pass


def test_a_zip_that_lies_about_sizes_is_cut(settings):
    content = zipped({"package.yml": "", "file": b"x" * 5000}).getvalue()
    # The size of “file” in the directory at the end, changed to less than it is.
    place = content.rindex(b"PK\x01\x02")
    lying = content[: place + 24] + (100).to_bytes(4, "little") + content[place + 28 :]
    with (
        pytest.raises(Invalid, match=r"larger than the zip says|cannot be read"),
        archives.opened(io.BytesIO(lying)) as archive,
        archive.opened("file") as stream,
    ):
        while stream.read(64):
            pass
    settings.ARTIFACT_MAXIMUM_MIB = 1
    big = zipped({"package.yml": "", "file": b"x" * 2_000_000})
    with pytest.raises(Invalid, match="more than 1 MiB"), archives.opened(big):
        pass


def test_artifacts_are_kept_once_within_limits_and_swept(db, settings, tmp_path):
    settings.ARTIFACT_DIR = tmp_path / "artifacts"
    one = artifacts.store(io.BytesIO(b"hello"))
    assert artifacts.store(io.BytesIO(b"hello")) == one
    assert artifacts.path_of(one.sha256).read_bytes() == b"hello"
    assert one.sha256.startswith("2cf24dba")
    with pytest.raises(Invalid, match="larger than"):
        artifacts.store(io.BytesIO(b"hello"), limit=4)
    # Nothing is left over of what was refused.
    assert [path for path in settings.ARTIFACT_DIR.iterdir() if path.is_file()] == []
    assert artifacts.sweep() == 0
    Artifact.objects.update(created_at="2026-01-01T00:00:00Z")
    assert artifacts.sweep() == 1
    assert not artifacts.path_of(one.sha256).exists()
    with pytest.raises(Conflict, match="Import its package again"):
        artifacts.opened(one)
