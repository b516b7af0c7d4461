"""From a path to a handler, by the rules of the original's router (contract 1.3)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hosts.simulator import hub
from hosts.simulator.auth import Caller, authenticate
from hosts.simulator.wire import (
    Answer,
    RefusedError,
    Request,
    UnauthorizedError,
    diagnostics_body,
    error_body,
)

Handler = Callable[[Request], Awaitable[Answer]]

MODERN_METHOD = "PUT"
"""The state verbs' method since 1.0.5; before, it was GET (contract 2.3)."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``kind`` is its name in the counters."""

    kind: str
    handler: Handler
    public: bool
    users_only: bool
    state_verb: bool


_static: dict[str, dict[str, Route]] = {}
_dynamic: dict[tuple[str, int], list[tuple[tuple[str, ...], dict[str, Route]]]] = {}


def route(
    method: str,
    path: str,
    kind: str,
    *,
    public: bool = False,
    users_only: bool = False,
    state_verb: bool = False,
) -> Callable[[Handler], Handler]:
    """Register a handler for a path below ``/api/v1`` or ``/api``; ``*`` stands for one part."""

    def register(handler: Handler) -> Handler:
        entry = Route(kind, handler, public, users_only, state_verb)
        if "*" not in path:
            _static.setdefault(path, {})[method] = entry
            return handler
        parts = tuple(path.split("/"))
        rows = _dynamic.setdefault((parts[0], len(parts)), [])
        for pattern, methods in rows:
            if pattern == parts:
                methods[method] = entry
                return handler
        rows.append((parts, {method: entry}))
        return handler

    return register


def _find(path: str) -> tuple[dict[str, Route], tuple[str, ...]] | None:
    if methods := _static.get(path):
        return methods, ()
    parts = path.split("/")
    for pattern, methods in _dynamic.get((parts[0], len(parts)), ()):
        args = []
        for wanted, part in zip(pattern, parts, strict=True):
            if wanted == "*" and part:
                args.append(part)
            elif wanted != part:
                break
        else:
            return methods, tuple(args)
    return None


async def answer(request: Request) -> Answer:
    """Answer one request; every refusal becomes the error body of the contract."""
    host = request.host
    path = request.path
    if "//" in path:
        return Answer(301, location=re.sub(r"/{2,}", "/", path))
    below = path.removeprefix("/api/").removeprefix("v1/") if path.startswith("/api/") else None
    found = None if below is None else _find(below)
    if found is None and below and below.endswith("/") and _find(below.rstrip("/")):
        return Answer(301, location=path.rstrip("/"))
    if found is None:
        host.count("unknown")
        return Answer(404, error_body(404, f"resource {path} not found"))
    methods, request.args = found
    entry = methods.get(request.method)
    if entry is not None and entry.state_verb and request.method != host.state_method:
        entry = None
    if entry is None:
        host.count("wrong_method")
        return Answer(405)
    host.count(entry.kind)
    if request.method != "GET":
        hub.log(host, f"[{request.method}] {path}")
    try:
        if not entry.public and authenticate(request) is Caller.KEY and entry.users_only:
            raise UnauthorizedError("User not found")
        return await entry.handler(request)
    except UnauthorizedError as error:
        host.count("unauthorized")
        if not error.args:
            return Answer(401, b"null")
        text = str(error)
        return Answer(401, {"error": "unauthorized_client", "error_description": text})
    except RefusedError as error:
        if error.diagnostics:
            operation, now = error.diagnostics, host.now()
            body = diagnostics_body(error.status, error.message, operation, now)
            return Answer(error.status, body)
        return Answer(error.status, error_body(error.status, error.message))
