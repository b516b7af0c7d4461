"""Every page and endpoint × every role × one's own and somebody else's object.

The table is `table.txt`. A route or method that it lacks fails, and so does one that is gone.
`ROUTES_WRITE=1` writes what is, to be read and judged before it is committed.
"""

from __future__ import annotations

import json
import os
import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from django.db import transaction
from django.test import Client
from django.urls import get_resolver, reverse

if TYPE_CHECKING:
    from tests.routes.conftest import World

TABLE = Path(__file__).with_name("table.txt")
COLUMNS = (
    ("stranger", "other"),
    ("nobody", "other"),
    ("developer", "own"),
    ("developer", "other"),
    ("auditor", "other"),
    ("operator", "other"),
    ("administrator", "other"),
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# What allauth serves has a test of its own: tests/orchestrator/web asks every one as a stranger. So
# has the compatible API, which takes no sessions: tests/contract.
ELSEWHERE = ("account_", "mfa_", "sso_", "usersessions_", "compat:")
# The noun that a route's id names: the first prefix of its name in this list.
NOUNS = {
    "api:user": "user",
    "api:service-account": "service",
    "api:token": "token",
    "api:webhook": "webhook",
    "api:enrolment-token": "enrolment_token",
    "hosts:revoke-enrolment-token": "enrolment_token",
    "accounts:webhook": "webhook",
    "api:job": "job",
    "api:task": "task",
    "tasks:": "task",
    "api:quota": "quota",
    "api:role": "role",
    "api:host": "host",
    "api:source": "source",
    "api:image": "image",
    "api:template": "template",
    "api:grant": "grant",
    "api:vm": "vm",
    "api:residue": "residue",
    "api:invitation": "invitation",
    "accounts:invitation": "invitation",
    "accounts:session": "session",
    "accounts:role": "role",
    "accounts:token": "token",
    "vms:token-access": "token",
    "console:token-change": "token",
    "accounts:user": "user",
    "accounts:weigh-role": "role",
    "accounts:change-role": "role",
    "accounts:delete-role": "role",
    "accounts:describe-service": "service",
    "accounts:delete-service": "service",
    "console:service-account": "service",
    "jobs:": "job",
    "hosts:": "host",
    "vms:drain": "host",
    "vms:adopt": "host",
    "api:access-request": "access_request",
    "vms:approve-access": "access_request",
    "vms:decline-access": "access_request",
    "vms:withdraw-access": "access_request",
    "vms:user-access": "user",
    "vms:revoke-grant": "grant",
    "vms:edit-quota": "quota",
    "vms:remove-quota": "quota",
    "vms:template": "template",
    "vms:warm-pool": "template",
    "vms:edit-template": "template",
    "vms:revoke-template": "template",
    "vms:grant": "template",
    "vms:fix-residue": "residue",
    "vms:check-residue": "residue",
    "vms:": "vm",
    "catalog:pull": "host",
    "catalog:push-from": "host",
    "catalog:delete-cached": "host",
    "catalog:cache-quota": "host",
    "catalog:cache-collect": "host",
    "catalog:source": "source",
    "catalog:edit-source": "source",
    "catalog:import-source": "source",
    "catalog:remove-source": "source",
    "catalog:": "image",
    "api:application": "application",
    "api:package": "package",
    "api:environment": "environment",
    "api:dictionary": "dictionary",
    "deployments:package": "package",
    "deployments:new-version": "package",
    "deployments:export-package": "package",
    "deployments:delete-package": "package",
    "deployments:set-entry": "dictionary",
    "deployments:remove-entry": "dictionary",
    "deployments:dictionary": "dictionary",
    "deployments:edit-dictionary": "dictionary",
    "deployments:delete-dictionary": "dictionary",
    "deployments:": "environment",
}
# What a POST to the API sends, so that it is refused for the role's sake or for nothing.
BODIES: dict[str, dict[str, Any]] = {
    "api:users": {"username": "new", "roles": []},
    "api:invitations": {"username": "new", "roles": []},
    "api:service-accounts": {"username": "new", "roles": []},
    "api:tokens": {"name": "new", "scopes": ["read"]},
    "api:webhooks": {"name": "new", "url": "http://10.0.0.1/"},
    # Nothing listens there: whoever may enrol is told so, with 400.
    "api:hosts": {"name": "new", "url": "http://127.0.0.1:1", "username": "u", "password": "p"},
    "api:enrolment-tokens": {"host_name": "new"},
    "api:sources": {"name": "new", "connection": "host=http://127.0.0.1:1"},
    "api:images": {
        "source": "catalog",
        "catalog_id": "new",
        "version": "1",
        "architecture": "arm64",
        "type": "pvm",
    },
    "api:templates": {
        "name": "new",
        "clone_of": "golden",
        "cpus": 1,
        "memory_mib": 512,
        "disk_gib": 5,
        "default_lease_seconds": 60,
        "maximum_lease_seconds": 60,
        "lease_end": "delete",
    },
    "api:vm-execute": {"command": "true"},
    "api:vm-extend": {"lease_seconds": 60},
    "api:vm-hold": {"reason": "test"},
    "api:vm-resize": {"cpus": 1},
    "api:vm-configure": {"devices": {"net0": False}},
    "api:vm-rename": {"name": "other"},
    "api:vm-upload": {"path": "/a", "remote_path": "/b"},
    "api:host-cordon": {"reason": "test"},
    "api:host-disable": {"reason": "test"},
    "api:host-drain": {"reason": "test"},
    "api:host-adopt": {"host_vm_id": "{0}"},
    "api:host-cache-delete": {"everything": True},
    "api:host-cache-quota": {"quota_mib": 1000},
    "api:source-push": {"host": "mac-1", "vm": "golden", "catalog_id": "new", "version": "1"},
    "api:image-unrevoke": {"reason": "test"},
    "api:host-register": {"path": "/a.pvm"},
    "api:host-unregister": {"host_vm_id": "{0}"},
    "api:vm-clone-to-template": {"name": "new"},
    "api:host-maintain": {"reason": "test", "until": "2099-01-01T00:00:00Z"},
    "api:image-taint": {"reason": "test"},
    "api:roles": {"name": "new", "permissions": ["hosts.view"]},
    "api:access-requests": {"template": "new", "reason": "test"},
    "api:access-request-decline": {"answer": "no"},
    "api:queue-hold": {"note": "test"},
    "api:tasks": {"environment": "none"},
    "api:task-schedule": {"at": "2020-01-01T00:00:00Z"},
    "api:task-rollback-preview": {"by": "steps"},
    "api:task-skip": {"paths": ["0_1_1_1"]},
    "api:task-unskip": {"paths": ["0_1_1_1"]},
    "api:task-pause": {"path": "0_1_1_1"},
    "api:task-approve": {"path": "0_1_1_1"},
    "api:task-assign": {"owner": "olga"},
    "api:environment-access": {"user": "charlie", "level": "deploy"},
    "api:quotas": {"role": "Developer", "maximum_vms": 1},
    "api:packages": {"application": "New", "version": "1"},
    "api:packages-import": {"yaml": "application: New\nversion: 1"},
    "api:environments": {"name": "new"},
    "api:dictionaries": {"name": "new"},
    "api:deployment-preview": {"environment": "Staging", "package": "Shop 1.0"},
}
FORM = urlencode({"running_vms": "keep", "reason": "test", "active": "false"}).encode()


def routes() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return every named route with its parameters and methods."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}

    def walk(patterns: list[Any], namespace: str) -> None:
        for pattern in patterns:
            if hasattr(pattern, "url_patterns"):
                inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
                walk(pattern.url_patterns, inner)
                continue
            name = f"{namespace}{pattern.name}"
            view = getattr(pattern.callback, "cls", getattr(pattern.callback, "view_class", None))
            methods = tuple(m for m in METHODS if view is None or hasattr(view, m.lower()))
            if view is None:
                methods = ("GET", "POST")
            if not name.startswith(ELSEWHERE):
                assert pattern.name, f"{pattern} has no name, so no table can list it."
                found[name] = (str(pattern.pattern), methods)

    walk(get_resolver().url_patterns, "")
    return found


def table() -> dict[tuple[str, str], list[str]]:
    rows = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            name, method, *statuses = line.split()
            rows[name, method] = statuses
    return rows


ROUTES = routes()
CASES = [(name, method) for name, (_, methods) in ROUTES.items() for method in methods]


@pytest.mark.skipif("ROUTES_WRITE" not in os.environ, reason="ROUTES_WRITE=1 writes the table")
def test_write_the_table(world: World) -> None:
    lines = [
        "# Status that each role gets; `login` is the redirect to it. Written by ROUTES_WRITE=1.",
        f"# {'route':24} method  " + "  ".join(f"{who}:{whose}" for who, whose in COLUMNS),
    ]
    clients = {who: client_of(world, who) for who, _ in COLUMNS}
    for name, method in CASES:
        got = [answer(clients[who], world, name, method, whose) for who, whose in COLUMNS]
        lines.append(f"{name:26} {method:7} {'  '.join(f'{status:5}' for status in got)}".rstrip())
    TABLE.write_text("\n".join(lines) + "\n")


def test_the_table_has_every_route_and_no_other() -> None:
    assert sorted(table()) == sorted(CASES)


@pytest.mark.parametrize("column", COLUMNS, ids="-".join)
def test_every_route_answers_as_the_table_says(world: World, column: tuple[str, str]) -> None:
    place = COLUMNS.index(column)
    wrong = []
    client = client_of(world, column[0])
    for (name, method), statuses in table().items():
        got = answer(client, world, name, method, column[1])
        if got != statuses[place]:
            wrong.append(f"{name} {method}: {got} instead of {statuses[place]}")
    assert wrong == []


def client_of(world: World, who: str) -> Client:
    client = Client()
    if who != "stranger":
        client.force_login(world.people[who], "allauth.account.auth_backends.AuthenticationBackend")
    return client


def answer(client: Client, world: World, name: str, method: str, whose: str) -> str:
    """Ask for `whose` object and take everything back; return the status, or `login`."""
    thing = world.own if whose == "own" else world.other
    api = name.startswith("api:")
    form = FORM
    if name == "jobs:new-batch":
        form += b"&" + urlencode({"verb": "vm.delete", "id": thing.ids["vm"]}).encode()
    cookies = deepcopy(client.cookies)
    with transaction.atomic():
        response = client.generic(
            method,
            address(name, thing.ids),
            json.dumps(BODIES.get(name, {}) | body_of(name, thing)).encode() if api else form,
            "application/json" if api else "application/x-www-form-urlencoded",
        )
        transaction.set_rollback(True)
    client.cookies = cookies  # a new session's key would name one that was taken back
    if response.status_code == 302 and "/accounts/login/" in response["Location"]:
        return "login"
    return str(response.status_code)


def body_of(name: str, thing: Any) -> dict[str, Any]:
    """Return what a body has to say about the objects that were made for this test."""
    if name == "api:vms":
        return {"template": str(thing.ids["template"])}
    if name in ("api:batches", "api:batch-preview"):
        return {"verb": "vm.delete", "ids": [str(thing.ids["vm"])]}
    if name == "api:host-adopt":
        return {"template": str(thing.ids["template"])}
    if name == "api:host-cache-pull":
        return {"image": str(thing.ids["image"])}
    if name in ("api:grant-many", "api:grant-preview"):
        return {"templates": [str(thing.ids["template"])], "users": ["charlie"], "level": "use"}
    if name == "api:grants":
        return {"template": str(thing.ids["template"]), "user": "charlie", "level": "use"}
    return {}


def noun_of(name: str) -> str:
    """Return what the first id of a route names."""
    return next(
        noun
        for prefix, noun in NOUNS.items()
        if name == prefix or name.startswith(prefix if prefix.endswith(":") else f"{prefix}-")
    )


def address(name: str, ids: dict[str, Any]) -> str:
    pattern, _ = ROUTES[name]
    if name == "api:anything-else":
        return "/api/v2/nothing/"
    arguments: dict[str, Any] = {}
    for key in re.findall(r"<(?:uuid|str):(\w+)>", pattern):
        known = {**ids, "secret": "unknown"}
        arguments[key] = known[noun_of(name) if key == "id" else key]
    if "<slug:kind>" in pattern:
        arguments["kind"] = "cordon"
    return reverse(name, kwargs=arguments)
