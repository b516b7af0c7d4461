"""No field of an answer is believed: each one is broken in turn, in every parser."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hosts.drivers import HostError
from hosts.drivers.options import OPTIONS
from hosts.drivers.parallels import configuring, parsing
from hosts.drivers.parallels.messages import Answer
from hosts.drivers.parallels.reading import WrongAnswer, parse_json
from hosts.drivers.parallels.scrub import connection_secrets, scrub

ANSWER = Answer(200, "application/json", "Mon, 21 Sep 2026 10:00:00 GMT", b"", 1_790_000_000.0, 1.5)

ITEM = {"logical_cpu_count": 4, "memory_size": 8192.0, "disk_count": 1024.0}
VM = {
    "ID": "{vm-1}",
    "Name": "a",
    "State": "running",
    "Type": "VM",
    "OS": "linux",
    "user": "ci",
    "Home": "/Users/ci/Parallels/a.pvm/",
    "internal_ip_address": "10.0.0.1",
    "Hardware": {"cpu": {"cpus": 2}, "memory": {"size": "2048Mb"}, "hdd0": {"size": "1024Mb"}},
    "Network": {"ipAddresses": [{"ip": "10.0.0.1"}]},
}
DOCUMENTS: dict[str, Any] = {
    "probe": {"status": "OK"},
    "token": {"token": "abc", "expires_at": 1_790_000_900},
    "hardware": {
        "cpu_type": "arm64",
        "cpu_brand": "M2",
        "devops_version": "1.0.5",
        "os_name": "macOS",
        "os_version": "15",
        "parallels_desktop_version": "20",
        "parallels_desktop_licensed": True,
        **dict.fromkeys(
            ("system_reserved", "total", "total_available", "total_in_use", "total_reserved"), ITEM
        ),
        "cache_config": {"enabled": True},
        "enabled_modules": ["api"],
    },
    "licence": {"uuid": "u"},
    "vm": VM,
    "vms": [VM],
    "status": {"id": "a", "status": "running", "ip_configured": "-"},
    "job": {
        "id": "j",
        "state": "completed",
        "progress": 100,
        "message": "m",
        "error": "",
        "result_record_id": "{vm}",
        "result_record_name": "n",
        "result_record_type": "virtual_machine",
    },
    "images": {
        "manifests": [
            {
                "catalog_id": "C",
                "version": "1",
                "architecture": "arm64",
                "cache_size": 10,
                "cache_type": "pvm",
                "cache_date": "2026-09-21T10:00:00Z",
                "cache_last_used": "2026-09-21T10:00:00Z",
            }
        ]
    },
    "created_job": {"id": "j"},
    "cloned": {"id": "{vm}", "status": "Success"},
    "done": {"id": "a", "status": "Success"},
    "configured": {"operations": [{"status": "Success"}]},
    "executed": {"exit_code": 0, "stdout": "o", "stderr": "e"},
    "uploaded": {"path": "/tmp/a"},
    "news_of": {
        "event_type": "pdfm",
        "message": "VM_STATE_CHANGED",
        "body": {"vm_id": "{vm}", "current_state": "running"},
    },
    "snapshots": {
        "snapshots": [
            {
                "id": "{s-1}",
                "name": "clean",
                "date": "2026-09-21 10:05:00",
                "state": "poweron",
                "current": True,
                "parent": "",
            }
        ]
    },
    "taken_snapshot": {"snapshot_name": "clean", "snapshot_id": "{s-1}"},
}
UNREAD = {
    "hardware": {"total_in_use.disk_count", "total_reserved.disk_count"},
    "done": {"id"},
    "uploaded": {"path"},
    "news_of": {"body.current_state"},
    "taken_snapshot": {"snapshot_name"},
}
"""Fields that are in the documents and of no interest to the parser."""
REQUIRED = {
    "probe": ["status"],
    "token": ["token", "expires_at"],
    "hardware": [
        "cpu_type",
        "system_reserved",
        "total",
        "total_available",
        "total_in_use",
        "total_reserved",
        "total.logical_cpu_count",
        "total.memory_size",
        "total.disk_count",
        "total_available.disk_count",
        "system_reserved.logical_cpu_count",
        "devops_version",
    ],
    "vm": ["ID", "Name", "State"],
    "status": ["id", "status"],
    "job": ["id", "state"],
    "images": ["manifests.0.catalog_id", "manifests.0.version"],
    "created_job": ["id"],
    "cloned": ["id"],
    "executed": ["exit_code"],
    "snapshots": ["snapshots.0.id"],
    "news_of": ["body", "body.vm_id"],
    "taken_snapshot": ["snapshot_id"],
}
STRANGE = [5, -5, 1e300, 2**70, True, "text", "", [5], {"a": 1}, "\x00\ud800", "9" * 500]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to every value in a document, containers included."""
    if path:
        yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def parse(name: str, document: Any) -> Any:
    return getattr(parsing, name)(parse_json(json.dumps(document).encode()), ANSWER)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_document_itself_is_fine(name: str) -> None:
    parse(name, DOCUMENTS[name])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_field_of_another_type_is_refused_by_name(name: str) -> None:
    document = DOCUMENTS[name]
    for path in leaves(document):
        original = document
        for key in path:
            original = original[key]
        dotted = ".".join(map(str, path))
        if dotted in UNREAD.get(name, set()):
            continue
        wrong = "text" if isinstance(original, int | float | list | dict) else 5
        with pytest.raises((WrongAnswer, HostError)) as caught:
            parse(name, changed(document, path, wrong))
        if isinstance(caught.value, WrongAnswer):
            names = [part for part in path if isinstance(part, str)]
            assert not names or names[-1] in str(caught.value), dotted
    for other in (None, 5, "text", {} if isinstance(document, list) else []):
        if (name, other) != ("done", None):
            with pytest.raises(WrongAnswer):
                parse(name, other)


@pytest.mark.parametrize("name", REQUIRED)
def test_what_must_be_there(name: str) -> None:
    for dotted in REQUIRED[name]:
        path = tuple(int(part) if part.isdigit() else part for part in dotted.split("."))
        for value in (..., None):
            with pytest.raises((WrongAnswer, HostError)):
                parse(name, changed(DOCUMENTS[name], path, value))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_strange_values_never_crash_and_never_reach_the_caller(name: str) -> None:
    for path in leaves(DOCUMENTS[name]):
        for value in STRANGE:
            try:
                result = parse(name, changed(DOCUMENTS[name], path, value))
            except (WrongAnswer, HostError):
                continue
            repr(result).encode()  # no half surrogates
            assert "\\x00" not in repr(result)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                sorted(
                    {k for d in DOCUMENTS.values() if isinstance(d, dict) for k in d}
                    | set(VM)
                    | set(ITEM)
                )
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(DOCUMENTS)), JSON)
def test_any_json_is_parsed_or_refused(name: str, document: Any) -> None:
    with suppress(WrongAnswer, HostError):
        parse(name, document)


@settings(deadline=None)
@given(JSON, st.sampled_from(sorted({option.shown for option in OPTIONS.values()})))
def test_any_json_is_a_configuration_or_refused(document: Any, path: tuple[str, ...]) -> None:
    nested = document
    for key in reversed(path):
        nested = {key: nested}
    for record in (document, nested, {"Host Shared Folders": {"a": document}, **nested}):
        with suppress(WrongAnswer, HostError):
            found = configuring._configuration(record, ANSWER)
            assert all(isinstance(value, str) for value in found.options.values())


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with suppress(WrongAnswer):
        parse_json(body)


@pytest.mark.parametrize(
    ("size", "mib"),
    [("8192Mb", 8192), ("8 GB", 8192), ("1.5Gb", 1536), ("2048 MiB", 2048), ("512Kb", 1)],
)
def test_sizes(size: str, mib: int) -> None:
    assert parse("vm", changed(VM, ("Hardware", "memory", "size"), size)).memory_mib == mib


def test_disks_are_summed_and_rounded_up() -> None:
    vm = changed(VM, ("Hardware", "hdd1"), {"size": "1Mb"})
    vm = changed(vm, ("Hardware", "cdrom0"), {"size": "9999Mb"})
    assert parse("vm", vm).disk_gib == 2


@pytest.mark.parametrize(
    ("text", "kept", "hidden"),
    [
        ("cannot pull: host=ci@x.io:pw1@https://c.example", "cannot pull", "pw1"),
        ("get https://ci:pw1@c.example/x failed", "failed", "pw1"),
        ("Authorization: Bearer abc.def refused", "refused", "abc.def"),
        ("provider=aws-s3;bucket=vms;access_key=AKIA1;secret_key=zzz1", "bucket=vms", "zzz1"),
        ('{"password": "pw1"}', "password", "pw1"),
        ("the secret pw1 was wrong", "was wrong", "pw1"),
        ("a\x1b[31m\nb" + "c" * 999, "a [31m b", "\n"),
    ],
)
def test_scrub(text: str, kept: str, hidden: str) -> None:
    shown = scrub(text, ["pw1"])
    assert kept in shown and hidden not in shown and len(shown) <= 300


def test_connection_secrets() -> None:
    text = "host=ci@x.io:pw@https://c.io;provider=aws;bucket=b;secret_key=k"
    assert set(connection_secrets(text)) >= {text, "k", "pw"}
    assert connection_secrets("") == ()


def test_snapshots_come_after_their_parents_whatever_the_order() -> None:
    def row(id: str, parent: str) -> dict[str, Any]:
        return {"id": id, "name": id, "date": "", "state": "poweroff", "parent": parent}

    def parsed(*rows: dict[str, Any]) -> list[tuple[str, str]]:
        found = parsing.snapshots({"snapshots": list(rows)}, ANSWER)
        return [(one.id, one.parent) for one in found]

    assert parsed(row("c", "b"), row("b", "a"), row("a", "gone")) == [
        ("a", ""),
        ("b", "a"),
        ("c", "b"),
    ]
    with pytest.raises(WrongAnswer, match="circle"):
        parsed(row("a", "b"), row("b", "a"))
