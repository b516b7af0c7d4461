"""The document of a package: its schema, and reading it from YAML with the lines of what is wrong.

`docs/deployments.md` describes it for users. The API takes the same document as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import yaml

from deployments import policies, types, versions
from deployments.schemas import LONGEST_TEXT, NAME, Field, Path, Problem, problems
from orchestrator.refusals import Invalid

LARGEST = 1024 * 1024  # bytes of a YAML document
DEEPEST = 30  # levels of keys and lists in it
MOST = 1000  # deployables of a package, members of a composite
SECRET_REFERENCE = "{{secret:"
SHA256 = re.compile(r"[0-9a-f]{64}")

Lines = Mapping[Path, int]


def _plain(**options: Any) -> Field:
    return Field(placeholders=False, **options)


def _name(value: str) -> str:
    if NAME.fullmatch(value):
        return ""
    return (
        "Use 1 to 100 letters, digits, spaces, dots, dashes or underscores,"
        " beginning and ending with a letter or digit."
    )


MEMBER: dict[str, Field] = {
    "application": _plain(kind="text", required=True, check=_name),
    "version": _plain(kind="text", required=True),
}
DEPLOYABLE: dict[str, Field] = {
    "name": _plain(kind="text", required=True, check=_name),
    "type": _plain(kind="choice", required=True, choices=tuple(types.TYPES)),
    "tags": _plain(kind="list", most=50),
    "file": _plain(kind="text"),  # its path in the zip
    "content": _plain(kind="lines"),  # or its text itself
    "sha256": _plain(kind="text"),  # or the checksum of an artifact that is there
    "properties": Field("map"),
}
DOCUMENT: dict[str, Field] = {
    "application": _plain(kind="text", required=True, check=_name),
    "version": _plain(kind="text", required=True),
    "description": _plain(kind="lines"),
    "orchestrators": Field("list", most=50),
    "dependencies": _plain(kind="map"),
    "policy": Field("map", inner=policies.PACKAGE),
    "packages": Field("list", inner=MEMBER, most=MOST),
    "deployables": Field("list", inner=DEPLOYABLE, most=MOST),
}
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}")


def check(document: Any) -> list[Problem]:
    """Return what is wrong with a document, without looking at what is stored."""
    # The properties of a deployable are checked by their type, below.
    shallow = {**DOCUMENT, "deployables": Field("list", inner=_without_properties(), most=MOST)}
    found = problems(shallow, document)
    if not isinstance(document, Mapping):
        return found
    wrong = {problem.path[:1] for problem in found}
    if ("version",) not in wrong and not VERSION.fullmatch(document["version"]):
        text = "Use 1 to 60 letters, digits, dots, dashes, plus or underscores."
        found.append(Problem(("version",), text))
    if ("policy",) not in wrong and document.get("policy"):
        found += policies.package_problems(document["policy"], ("policy",))
    if ("dependencies",) not in wrong:
        found += _dependency_problems(document.get("dependencies") or {})
    if document.get("packages") and (document.get("deployables") or document.get("dependencies")):
        text = "A composite has packages only: no deployables and no dependencies of its own."
        found.append(Problem(("packages",), text))
    if ("deployables",) not in wrong:
        names: set[str] = set()
        for number, one in enumerate(document.get("deployables") or []):
            at: Path = ("deployables", number)
            if one["name"] in names:
                found.append(Problem((*at, "name"), f"There are two named {one['name']}."))
            names.add(one["name"])
            found += deployable_problems(one, at)
    return [*found, *_references(document)]


def _without_properties() -> dict[str, Field]:
    return {**DEPLOYABLE, "properties": Field("map", inner=_Anything())}


class _Anything(dict[str, Field]):
    """A schema that every key is in, and that checks nothing."""

    def __contains__(self, key: object) -> bool:
        return True


def deployable_problems(one: Mapping[str, Any], at: Path) -> list[Problem]:
    """Return what is wrong with the properties and the file of a deployable."""
    kind = types.TYPES[one["type"]]
    given = one.get("properties") or {}
    found = problems(kind.properties, given, (*at, "properties"))
    if not found and kind.check:
        found = kind.check(given, (*at, "properties"))
    files = [name for name in ("file", "content", "sha256") if one.get(name) not in (None, "")]
    if kind.artifact and len(files) != 1 and files != ["file", "sha256"]:
        text = f"A {kind.name} needs one of: file (of the zip), content, sha256 (of an artifact)."
        found.append(Problem(at, text))
    if files and not kind.artifact:
        found.append(Problem((*at, files[0]), f"A {kind.name} carries no file."))
    if (sha256 := one.get("sha256")) and not SHA256.fullmatch(str(sha256)):
        found.append(Problem((*at, "sha256"), "Give the SHA-256 as 64 hexadecimal digits."))
    return found


def _dependency_problems(needs: Mapping[str, Any]) -> Iterable[Problem]:
    for name, text in needs.items():
        try:
            versions.range_of(str(text))
        except ValueError as error:
            yield Problem(("dependencies", name), str(error))


def _references(value: Any, at: Path = ()) -> Iterable[Problem]:
    """Find references to secrets: only dictionaries make them."""
    if isinstance(value, str) and SECRET_REFERENCE in value:
        text = "Name the key of a dictionary, as in {{password}}; references to secrets are ours."
        yield Problem(at, text)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _references(one, (*at, str(key)))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _references(one, (*at, number))


def refuse(found: Iterable[Problem], lines: Lines | None = None) -> None:
    """Raise `Invalid` for problems, with their lines where the document came from a file."""
    found = list(found)
    if not found:
        return
    errors: dict[str, list[str]] = {}
    sentences = []
    for problem in found[:50]:
        where = ".".join(str(part) for part in problem.path)
        line = _line(problem.path, lines)
        text = f"Line {line}: {problem.text}" if line else problem.text
        errors.setdefault(where, []).append(text)
        sentences.append(f"{text}" if line or not where else f"{where}: {text}")
    more = f" And {len(found) - 3} more." if len(found) > 3 else ""
    raise Invalid(" ".join(sentences[:3]) + more, errors=errors, code="bad_package")


def _line(path: Path, lines: Lines | None) -> int | None:
    """Return the line of a path, or of what it is in when it is not there."""
    if lines is None:
        return None
    while path not in lines and path:
        path = path[:-1]
    return lines.get(path)


# YAML -------------------------------------------------------------------------------------------


def read_yaml(text: bytes) -> tuple[Any, Lines]:
    """Return the document of a YAML text, and the line of each of its parts, from 1.

    Only plain values: tags, anchors and aliases are refused. Raises `Invalid` with the line.
    """
    if len(text) > LARGEST:
        raise Invalid(f"The YAML is larger than {LARGEST // 1024} KiB.", code="bad_package")
    try:
        decoded = text.decode("utf-8-sig")
        depth = 0
        for event in yaml.parse(decoded, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:  # before it costs time: reading takes the square of the depth
                refused("This is nested too deeply.", event.start_mark)
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                refused("Anchors and aliases are not allowed; write it out.", event.start_mark)
        node = yaml.compose(decoded, Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise Invalid("The YAML is not UTF-8.", code="bad_package") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        refused(f"This is no YAML ({error.problem or error.context}).", mark)
    except yaml.YAMLError as error:
        raise Invalid(f"This is no YAML ({error}).", code="bad_package") from None
    if node is None:
        raise Invalid("The YAML is empty.", code="bad_package")
    lines: dict[Path, int] = {}
    return _value(node, (), lines), lines


def refused(text: str, mark: Any) -> NoReturn:
    line = f"Line {mark.line + 1}: " if mark else ""
    raise Invalid(f"{line}{text}", code="bad_package")


def _value(node: yaml.Node, at: Path, lines: dict[Path, int]) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                refused("A key is a text.", key_node.start_mark)
            if key in found:
                refused(f"“{key}” is given twice.", key_node.start_mark)
            lines[(*at, key)] = key_node.start_mark.line + 1
            found[key] = _value(value_node, (*at, key), lines)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(one, (*at, number), lines) for number, one in enumerate(node.value)]
    return _scalar(node, at)


def _scalar(node: Any, at: Path) -> Any:
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return node.value.lower() in ("true", "yes", "on")
        case "int" if len(node.value) < 20:
            try:
                # A version is a text: 1.10 is not 1.1, and 010 is no octal number here.
                return node.value if _is_text(at) else int(node.value.replace("_", ""), 10)
            except ValueError:
                return node.value
        case "float":
            try:
                return node.value if _is_text(at) else float(node.value)
            except ValueError:
                return node.value
        case "str" | "int" | "timestamp":
            return node.value
        case _:
            refused("Tags of YAML are not allowed.", node.start_mark)


def _is_text(at: Path) -> bool:
    return bool(at) and (at[-1] in ("version", "sha256", "mode") or at[0] == "dependencies")


def write_yaml(document: Mapping[str, Any]) -> str:
    """Return a document as YAML, in the order of its keys, long texts as blocks."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )


class _Dumper(yaml.SafeDumper):
    pass


def _represent(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent)
assert LONGEST_TEXT < LARGEST
