"""The one spelling of a path under which this API is routed. Knows nothing of Django."""

from __future__ import annotations

PREFIX = "/api/v1"
_OTHER_APIS = ("v2", "docs")


def normal(path: str) -> str | None:
    """Return a path of this API in the spelling that is routed; None for every other path.

    Clients send `//` within it and `/` at its end, and leave the version out (`/api/machines` is
    `/api/v1/machines`). A redirect would turn their POST into a GET.
    """
    api, *rest = [part for part in path.split("/") if part] or [""]
    if api != "api" or (rest and rest[0] in _OTHER_APIS):
        return None
    if rest and rest[0] == "v1":
        rest = rest[1:]
    return "/".join([PREFIX, *rest])
