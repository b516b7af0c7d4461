"""What every page's template may use."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from django.http import HttpRequest


@lru_cache(maxsize=1)
def version() -> str:
    """Return the product's version: the newest one named in the changelog, else the project's."""
    for name, pattern in [
        ("CHANGELOG.md", r"^##\s*\[?v?(\d+\.\d+[^\s\]]*)"),
        ("pyproject.toml", r'^version = "([^"]+)"'),
    ]:
        path = settings.BASE_DIR / name
        if path.exists() and (found := re.search(pattern, path.read_text(), re.MULTILINE)):
            return found[1]
    return "unknown"


def page(request: HttpRequest) -> dict[str, Any]:
    """Give templates `actor` (who looks; None before the middleware has run) and `version`."""
    return {"actor": getattr(request, "actor", None), "version": version()}
