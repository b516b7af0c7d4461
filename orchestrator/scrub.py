"""Words made fit to show: no secrets, no control characters, not too long."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

_HIDDEN = "[hidden]"
_USERINFO = re.compile(r"[^\s/@=;,\"']+:[^\s/@\"']+@(?=[\w\[])")
_URL_USERINFO = re.compile(r"(?<=://)[^\s/@\"']+@")
_ASSIGNED = re.compile(
    r"(?i)\b([\w-]*(?:secret|passw(?:or)?d|token|api[_-]?key|access[_-]?key|credential)[\w-]*[\"']?\s*[=:]\s*[\"']?)"
    r"[^\s;,&\"']+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")
_WORDS = re.compile(r"\beyJ[\w-]+\.[\w.-]*")


def scrub(text: str, secrets: Iterable[str] = (), *, limit: int = 300) -> str:
    """Return at most `limit` characters of `text` without the given secrets or what looks like one.

    A host may quote a catalog's connection string or our own headers in its errors.
    """
    for secret in sorted({s for s in secrets if s}, key=len, reverse=True):
        # A very short secret is only looked for as a word: hiding every "a" would hide the reason.
        edge = (r"(?<!\w)", r"(?!\w)") if len(secret) < 4 else ("", "")
        for form in {secret, quote(secret, safe="")}:
            text = re.sub(edge[0] + re.escape(form) + edge[1], _HIDDEN, text)
    text = _WORDS.sub(_HIDDEN, text)
    text = _BEARER.sub(rf"\1 {_HIDDEN}", text)
    text = _URL_USERINFO.sub(f"{_HIDDEN}@", text)
    text = _USERINFO.sub(f"{_HIDDEN}@", text)
    text = _ASSIGNED.sub(rf"\1{_HIDDEN}", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
