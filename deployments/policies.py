"""What a version says about every run of it, and an environment about every run on it.

A version's policy: `gate` (a check after each batch), `on_failure`, `approvals`. An environment's
has these, too, and `max_unavailable`, `exclusive`. Stored as JSON; the engine reads what `merged`
gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.schemas import Field, Path, Problem, Schema, problems

PROBES = ("port", "http", "script", "agent")
CHECK: dict[str, Field] = {
    "probe": Field("choice", "What is looked at", required=True, choices=PROBES),
    "port": Field("integer", "TCP port", least=1, most=65_535),
    "path": Field("text", "Path of a URL, for http", default="/"),
    "status": Field("integer", "HTTP status that is wanted", default=200, least=100, most=599),
    "script": Field("lines", "Commands; exit code 0 is healthy"),
    "interpreter": Field("text", "What runs the script", default="/bin/sh"),
    "deadline_seconds": Field("integer", "Healthy by then", default=300, least=1, most=86_400),
    "minimum_healthy_seconds": Field("integer", "Healthy for so long", default=0, most=86_400),
}
ON_FAILURE: dict[str, Field] = {
    # How many containers may fail before the policy acts: a count or a share.
    "tolerated": Field("share", "Containers that may fail", default=0, placeholders=False),
    # What becomes of the other branches of a parallel block.
    "siblings": Field("choice", "Other branches", choices=("finish", "stop", "abort")),
    "then": Field("choice", "And then", choices=("hold", "stop", "rollback")),
}
APPROVAL: dict[str, Field] = {
    "name": Field("text", "What is approved", required=True, placeholders=False),
    # start: before the first step; batch: before each further batch; end: before it is registered.
    "at": Field("choice", "When", required=True, choices=("start", "batch", "end")),
    "role": Field("text", "Name of the role that may approve", placeholders=False),
    "timeout_seconds": Field("integer", "Stopped when nobody did", least=1, most=31 * 86_400),
}
PACKAGE: dict[str, Field] = {
    "gate": Field("map", "Check after each batch", inner=CHECK),
    "on_failure": Field("map", "When steps fail", inner=ON_FAILURE),
    "approvals": Field("list", "Points of approval", inner=APPROVAL, most=20),
}
ENVIRONMENT: dict[str, Field] = {
    "max_unavailable": Field("share", "Members being changed at once", least=1, placeholders=False),
    "exclusive": Field("flag", "One deployment at a time"),
    **PACKAGE,
}
DEFAULTS = {"on_failure": {"tolerated": 0, "siblings": "finish", "then": "hold"}}


def check_problems(data: Any, at: Path = ()) -> list[Problem]:
    """Return what is wrong with a health check: its fields, and what its probe needs."""
    found = problems(CHECK, data, at)
    if found or not isinstance(data, Mapping):
        return found
    needed = {"port": "port", "http": "port", "script": "script"}.get(data["probe"])
    if needed and data.get(needed) in (None, ""):
        found.append(Problem((*at, needed), f"The probe {data['probe']} needs “{needed}”."))
    return found


def package_problems(data: Any, at: Path = ()) -> list[Problem]:
    """Return what is wrong with a version's policy."""
    return _problems(PACKAGE, data, at)


def environment_problems(data: Any, at: Path = ()) -> list[Problem]:
    """Return what is wrong with an environment's policy."""
    return _problems(ENVIRONMENT, data, at)


def _problems(schema: Schema, data: Any, at: Path) -> list[Problem]:
    found = problems(schema, data, at)
    if not found and data.get("gate"):
        found = check_problems(data["gate"], (*at, "gate"))
    return found


def merged(package: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policy of a run: the environment's, where the version's says nothing else.

    Approvals of both are asked for, the environment's first.
    """
    failing = {
        **DEFAULTS["on_failure"],
        **environment.get("on_failure", {}),
        **package.get("on_failure", {}),
    }
    found = {**environment, **package, "on_failure": failing}
    if approvals := [*environment.get("approvals", []), *package.get("approvals", [])]:
        found["approvals"] = approvals
    if found.get("gate"):
        defaults = {name: one.default for name, one in CHECK.items() if one.default is not None}
        found["gate"] = {**defaults, **found["gate"]}
    return found
