"""The contract's own examples about accounts, catalog and configuration, and first calls of tools.

Compared by status, content type, names and types of fields, and where it matters by value. Examples
about machines, hosts, jobs and events are in the tests beside this one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import cache

from accounts.actors import SYSTEM, Actor
from accounts.models import Role, User
from accounts.users import create_user
from catalog import sources
from catalog.models import HostImage
from hosts.models import Host, HostCapacity, HostStatus, HostVM
from tests.contract.conftest import Tool
from tests.contract.running import RECORDED, recorded
from tests.contract.test_catalog import make_image
from vms.models import Grant, Template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.django_db
GOLDEN: list[dict[str, Any]] = json.loads(Path(__file__).with_name("golden.json").read_text())
STORAGE = "provider=aws-s3;bucket=vms;region=eu-west-1;access_key=AKIA7Q;secret_key=x9Lm"


def unlike(theirs: Any, ours: Any, place: str = "") -> Iterator[str]:
    """Yield how `ours` lacks what `theirs` has, or has it with another type."""
    numbers = isinstance(theirs, int | float) and isinstance(ours, int | float)
    if isinstance(theirs, bool) != isinstance(ours, bool) or not (
        numbers or type(theirs) is type(ours)
    ):
        yield f"{place} is {ours!r}, not like {theirs!r}"
    elif isinstance(theirs, dict):
        for name, value in theirs.items():
            if name in ours:
                yield from unlike(value, ours[name], f"{place}.{name}")
            else:
                yield f"{place}.{name} is missing"
    elif isinstance(theirs, list) and theirs:
        if not ours:
            yield f"{place} is empty"
        for one in ours[:1]:
            yield from unlike(theirs[0], one, f"{place}[0]")


@pytest.fixture(autouse=True)
def _no_lock_out() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def cast(alice: User, charlie: User, tool_of: Callable[..., Tool]) -> dict[str, Tool]:
    """The account of the examples, an administrator with a pool and a catalog, and others."""
    administrator = Role.objects.get(group__name="Administrator")
    ci = create_user(
        SYSTEM,
        username="ci",
        email="ci@example.com",
        password="S3cret!passw0rd",
        roles=[administrator],
    )
    User.objects.filter(pk=ci.pk).update(first_name="CI")
    ci.refresh_from_db()
    host = Host.objects.create(name="mac1", url="http://10.0.0.1:3080/api")
    HostStatus.objects.create(
        host=host,
        health="healthy",
        architecture="arm64",
        cpu_brand="Apple M2 Pro",
        os_name="macOS",
        os_version="15.5",
        desktop_version="20.4.0",
    )
    HostCapacity.objects.create(host=host, cpus_total=12, memory_mib_total=32768)
    seen = "2026-01-01T00:00:00Z"
    HostVM.objects.create(
        host=host,
        host_vm_id="{vm-1}",
        name="golden",
        state="stopped",
        type="macvm",
        home="/Users/ci/Parallels/golden.macvm",
        seen_at=seen,
    )
    HostImage.objects.create(
        host=host,
        catalog_id="MACOS-XCODE",
        version="16.2",
        architecture="arm64",
        size_mib=10240,
        type="macvm",
        seen_at=seen,
    )
    storage = sources.add_source(Actor(user=ci), name="vms", connection=STORAGE)
    make_image(
        storage,
        description="Xcode 16.2",
        pack_file="macos-xcode-arm64-16.2.pdpack",
        metadata_file="macos-xcode-arm64-16.2.meta",
        pack_bytes=10737418240,
        compressed=True,
        downloads=12,
        minimum_cpus=4,
        minimum_memory_mib=8192,
        labels=[("tag", "latest"), ("role", "IOS_TEAM"), ("claim", "PULL_XCODE")],
    )
    size = {"cpus": 1, "memory_mib": 512, "disk_gib": 5}
    lease = {"default_lease_seconds": 60, "maximum_lease_seconds": 60}
    template = Template.objects.create(name="ubuntu", **size, **lease)
    template.images.add(make_image(storage, "24.04", catalog_id="ubuntu", type="pvm"))
    Grant.objects.create(template=template, user=ci, level="use")
    return {"ci": tool_of(ci), "nobody": tool_of(charlie), "stranger": Tool()}


def test_every_example_is_answered_as_the_contract_has_it(cast: dict[str, Tool]) -> None:
    names: dict[str, str] = {}
    login = {"email": "ci@example.com", "password": "S3cret!passw0rd"}
    names["token"] = cast["stranger"]("post", "/auth/token", login).json()["token"]
    wrong = []
    for example in GOLDEN:
        text = json.dumps([example["path"], example.get("body")])
        for name, value in names.items():
            text = text.replace(f"${name}", value)
        path, body = json.loads(text)
        response = cast[example.get("as", "ci")](example["method"], path, body)
        at = f"{example['at']} {example['method']} {path}"
        if response.status_code != example["status"]:
            wrong.append(f"{at}: {response.status_code} {response.content.decode()[:300]}")
            continue
        if "answer" not in example:
            if response.content:
                wrong.append(f"{at}: {response.content!r}, not empty")
            continue
        told = response.json()
        if response["Content-Type"] != "application/json":
            wrong.append(f"{at}: {response['Content-Type']}")
        wrong += [f"{at}: {text}" for text in unlike(example["answer"], told)]
        wrong += [
            f"{at}: {name} is {told.get(name)!r}"
            for name in example.get("exact", [])
            if told.get(name) != example["answer"][name]
        ]
        names |= {name: told[key] for name, key in example.get("learn", {}).items()}
    assert wrong == []


def test_first_calls_that_tools_were_seen_to_make(db: None) -> None:
    """Login, health and licence, exactly as recorded, headers and all."""
    root = User.objects.create_user("root", "root@localhost", "secret")
    root.groups.add(Role.objects.get(group__name="Administrator").group)
    stranger, count = Tool(), 0
    for file in sorted(RECORDED.glob("*.txt")):
        for exchange in recorded(file.stem):
            if not any(word in exchange.path for word in ("/auth/token", "/license", "/health/")):
                continue
            count += 1
            headers = {
                name: value
                for name, value in exchange.headers.items()
                if name not in ("Host", "Content-Length", "Authorization", "Content-Type")
            }
            if "Authorization" in exchange.headers:
                login = {"email": "root@localhost", "password": "secret"}
                token = stranger("post", "/auth/token", login).json()["token"]
                headers["Authorization"] = f"Bearer {token}"
            response = stranger(
                exchange.method,
                exchange.path,
                exchange.body or None,
                kind=exchange.headers.get("Content-Type", ""),
                **headers,
            )
            what = f"{file.stem} {exchange.method} {exchange.path}"
            assert response.status_code == exchange.status, (what, response.content)
            assert response["Content-Type"] == "application/json", what
            assert list(unlike(exchange.answer, response.json())) == [], what
    assert count > 30
