"""Hooks of `schemathesis run` (`SCHEMATHESIS_HOOKS`): requests that reach something, and only us.

Generated ids and names exist nowhere, so each request would end with a 404. Most of them are
replaced by those of `SCHEMATHESIS_KNOWN`, a JSON file of `Known`. What replaces is chosen by a
digest of what was generated, so that a seed gives the same run.

What a verb ends comes from a list of its own, so that the others find what they need; the account
and the token in use are on none. No request leaves the machine: a host's address becomes that of a
simulated host, or a dead one.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, TypedDict

import schemathesis


class Known(TypedDict):
    """What exists: ids by noun (`vms`) or by operation (`vms.start`), and addresses of hosts.

    Where an address has two ids, they are one text with a slash between them.
    """

    ids: dict[str, list[str]]
    hosts: list[str]


KNOWN: Known = json.loads(Path(os.environ["SCHEMATHESIS_KNOWN"]).read_text())
ANSWERS = Path(os.environ["SCHEMATHESIS_ANSWERS"])
DEAD_HOST = "http://127.0.0.1:1"
# Verbs whose jobs are done at once, so that an answer that is held for them comes at once.
INSTANT = (
    *("cordon", "uncordon", "enable", "disable", "drain", "undrain", "maintain", "holds.end"),
    *("schedule", "stop", "abort", "cancel", "archive", "rollback", "skip", "unskip", "pause"),
    *("take-over", "assign", "restrict", "open", "access.delete"),
    *("extend", "heartbeat", "hold", "release", "taint", "untaint", "revoke"),
    *("unrevoke", "remove", "cache.quota"),
)
REFERENCES = {
    "template": "templates",
    "templates": "templates",
    "host": "hosts",
    "user": "users",
    "role": "roles",
    "roles": "roles",
    "source": "sources",
    "images": "images",
    "image": "images",
    "owner": "users",
    "host_vm_id": "foreign",
}
LOGIN = {"username": "root@localhost", "password": "simulated"}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Aim the request."""
    noun, verb = _words(case)
    headers = sorted((k, v) for k, v in (case.headers or {}).items() if k != "Authorization")
    body = case.body if isinstance(case.body, dict | list | str) else None
    chance = _number(case.path_parameters, case.query, headers, body)
    if case.path_parameters and chance % 8:
        names = sorted(case.path_parameters, key=case.path.index)
        ids = KNOWN["ids"].get(".".join([noun, verb, *names[1:]])) or KNOWN["ids"][noun]
        chosen = ids[chance // 8 % len(ids)].split("/")
        case.path_parameters = dict(zip(names, chosen, strict=True))
    if isinstance(case.body, dict):
        case.body = _aimed(case.body, noun)
    if case.headers and "Prefer" in case.headers and verb in INSTANT:
        case.headers["Prefer"] = "wait=1"


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Write down which operation answered what, for the test that started the run."""
    with ANSWERS.open("a") as answers:
        answers.write(f"{case.operation.label}\t{response.status_code}\n")


def _words(case: Any) -> tuple[str, str]:
    """Return noun and verb of an operation: `("vms", "start")`; the verb may be empty."""
    _, _, noun, *rest = case.path.strip("/").split("/")
    verbs = [part for part in rest if "{" not in part]
    verbs += {"DELETE": ["delete"], "PATCH": ["update"]}.get(case.method, [])
    return noun, ".".join(verbs)


def _aimed(body: dict[str, Any], noun: str) -> dict[str, Any]:
    """Return the body with references to what exists; half of the time also with fair values."""
    aimed = dict(body)
    chance = _number(body)
    for field, its_noun in REFERENCES.items():
        if field in body and (one := chance ^ _number(field)) % 8:
            ids = KNOWN["ids"][its_noun]
            known = ids[one // 8 % len(ids)]
            if isinstance(body[field], str):
                aimed[field] = known
            elif isinstance(body[field], list):
                aimed[field] = [known]
    if isinstance(body.get("url"), str):
        aimed["url"] = DEAD_HOST
    if chance % 2:
        return aimed
    for field in ("name", "username"):
        if isinstance(body.get(field), str):
            aimed[field] = f"fresh-{chance:x}"
    if noun == "vms":
        fair: dict[str, Any] = {
            "lease_seconds": 60,
            "seconds": 60,
            "path": "/a",
            "remote_path": "/b",
        }
        fair |= {"cpus": 1, "memory_mib": 512, "disk_gib": 64}
        aimed |= {field: value for field, value in fair.items() if field in aimed}
        if aimed.keys() & {"options", "folders", "unshared", "devices", "actions"}:
            aimed = {"devices": {"net0": False}}
        if "command" in aimed or "script" in aimed:
            aimed.pop("script", None)
            aimed |= {"command": "true"} | ({"user": "ci"} if "user" in aimed else {})
    if noun == "quotas" and ("user" in body or "role" in body):
        people = KNOWN["ids"]["users"]
        aimed = {"user": people[chance // 2 % len(people)], "maximum_vms": 5}
    if noun == "roles" and "permissions" in body and "name" in body:
        aimed = {"name": f"fresh-{chance:x}", "permissions": ["hosts.view"]}
    if noun == "invitations" and "username" in body:
        aimed = {"username": f"fresh-{chance:x}", "roles": []}
    if noun == "access-requests" and "template" in body:
        aimed = {"template": f"fresh-{chance:x}", "reason": "a test"}
    if noun == "tasks":
        if "environment" in body:
            there = KNOWN["ids"]
            aimed = {name: there[f"tasks.{name}"][0] for name in ("environment", "package")}
        aimed |= {"paths": ["0_1_1_1_1"]} if "paths" in body else {}
        aimed |= {"path": "0_1_1_1_1"} if "path" in body else {}
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        aimed |= {"at": tomorrow.isoformat()} if "at" in body else {}
        aimed |= {"owner": "admin"} if "owner" in body else {}
    if noun == "grants" and "templates" in body:
        pairs = list(product(KNOWN["ids"]["templates"], KNOWN["ids"]["roles"]))
        template, role = pairs[chance // 2 % len(pairs)]
        aimed = {"templates": [template], "roles": [role], "level": "manage"}
    if noun == "batches":
        host = KNOWN["ids"]["hosts"][chance // 2 % len(KNOWN["ids"]["hosts"])]
        aimed = {"verb": "host.inventory", "ids": [host]}
    if noun == "enrolment-tokens" and "host_name" in body:
        aimed = {"host_name": f"fresh-{chance:x}"}
    if noun == "tokens":
        aimed |= {"networks": ["10.0.0.0/8"]} if "networks" in body else {}
        aimed |= {"expires_at": None} if "expires_at" in body else {}
        aimed |= {"maximum_vms": 5} if "maximum_vms" in body else {}
        if "key" in body or "secret" in body:
            aimed |= {"key": f"fresh-{chance:x}", "secret": "a secret of ours"}
    if noun == "sources":
        aimed |= {"connection": "host=http://127.0.0.1:1"} if "connection" in aimed else {}
        if "vm" in body:
            idle = KNOWN["ids"]["hosts.drain"][0]
            aimed = {"host": idle, "vm": f"foreign-{chance % 30}", "version": f"{chance}"}
            aimed["catalog_id"] = "fresh"
    if noun in ("environments", "dictionaries"):
        named = {"name": aimed["name"]} if "name" in body else {}
        aimed = {**named, "description": "a test"}
    if noun == "environments" and "level" in body:
        aimed = {"role": KNOWN["ids"]["roles"][0], "level": "deploy"}
    if noun == "packages" and "application" in body:
        aimed = {"application": f"fresh-{chance:x}", "version": "1"}
    if noun == "packages" and {"yaml", "artifact"} & body.keys():
        aimed = {"yaml": f"application: fresh-{chance:x}\nversion: 1"}
    if noun == "deployments" and "environment" in body:
        aimed = {name: KNOWN["ids"][f"{name}s"][0] for name in ("environment", "package")}
    if noun == "webhooks":  # where nobody listens, and nobody sends: no tick runs
        aimed |= {"url": "http://10.0.0.1/hook"} if "url" in aimed else {}
        aimed |= {"kinds": ["vm"]} if "kinds" in aimed else {}
    if noun == "hosts":
        aimed |= {"path": "/a.pvm"} if "path" in aimed else {}
        if {"catalog_id", "version", "everything"} & body.keys():
            aimed = {"everything": True}
    if isinstance(body.get("until"), str):
        aimed["until"] = "2099-01-01T00:00:00Z"
        aimed.pop("starts_at", None)
    if "password" in body:
        aimed["password"] = "correct horse battery"
    if "url" in aimed and noun == "hosts":
        aimed["url"] = KNOWN["hosts"][chance // 2 % len(KNOWN["hosts"])]
        aimed |= LOGIN
        aimed.pop("api_key", None)
        aimed.pop("tls_fingerprint", None)
    if "default_lease_seconds" in aimed and noun == "templates":
        aimed |= {"default_lease_seconds": 60, "maximum_lease_seconds": 3600}
        aimed |= {"cpus": 1, "memory_mib": 512, "disk_gib": 10}
        aimed["images"] = KNOWN["ids"]["images"][:1]
        aimed.pop("clone_of", None)
    return aimed


def _number(*generated: Any) -> int:
    """Return a number that depends on nothing but what was generated."""
    return int.from_bytes(hashlib.sha256(repr(generated).encode("utf-8", "replace")).digest()[:4])
