"""Addresses and certificate fingerprints as people type them, in one normal form each."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import quote, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "for example https://mac1.example:3080"


def normalise_url(text: str) -> str:
    """Return the base URL of a host's API, such as `https://mac1.example:3080/api`.

    The scheme defaults to http and the path to `/api`; a path that does not end in `/api` gets it
    appended (contract 3.2). The host is lower-cased; default ports, double and trailing slashes and
    a trailing `/v1` go. Raises `ValueError` with a sentence for the person who typed it.
    """
    text = text.strip()
    if not text:
        raise ValueError(f"Enter the address of the host, {_EXAMPLE}.")
    if re.search(r"[\s\\\x00-\x1f\x7f]", text):
        raise ValueError("The address must not contain spaces, backslashes or control characters.")
    if not _SCHEME.match(text):
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"This is not an address of a host; enter one, {_EXAMPLE}.") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("The address must begin with http:// or https://.")
    if "@" in parts.netloc:
        raise ValueError(
            "Leave user name and password out of the address; enter them in their own fields."
        )
    if "?" in text or "#" in text:
        raise ValueError("The address must not contain a question mark or a number sign.")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError(f"The port must be a number from 1 to 65535, {_EXAMPLE}.")
    host = _normalise_host(parts.hostname or "", bracketed="[" in parts.netloc)
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{port}"
    return f"{parts.scheme}://{host}{_normalise_path(parts.path)}"


def _normalise_host(host: str, *, bracketed: bool) -> str:
    """Return a lower-case host name (IDNA) or address, an IPv6 address in brackets."""
    if not host:
        raise ValueError(f"The address has no host name; enter it in full, {_EXAMPLE}.")
    if bracketed:
        try:
            return f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            raise ValueError(
                "This is not an IPv6 address; write it like http://[2001:db8::7]:3080."
            ) from None
    try:
        host = host.lower() if host.isascii() else host.encode("idna").decode().lower()
    except UnicodeError:
        host = ""
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError(
            "The host name may hold letters, digits, dots and hyphens; check its spelling."
        )
    return host


def _normalise_path(path: str) -> str:
    """Return the path of the API, ending in `/api`."""
    segments = [segment for segment in path.split("/") if segment]
    if any(segment.lower().replace("%2e", ".") in {".", ".."} for segment in segments):
        raise ValueError(
            "The path of the address must not contain `.` or `..`; enter the real path."
        )
    if segments[-2:] == ["api", "v1"]:
        segments.pop()  # people paste it from the documentation
    if segments[-1:] != ["api"]:
        segments.append("api")
    return "/" + "/".join(quote(segment, safe="%:@!$&'()*+,;=~") for segment in segments)


def normalise_fingerprint(text: str) -> str:
    """Return a SHA-256 fingerprint as `AA:BB:…`, from any case, with or without colons.

    Raises `ValueError` with a sentence for the person who typed it.
    """
    digits = re.sub(r"[\s:]", "", text.rpartition("=")[2]).upper()
    if not re.fullmatch(r"[0-9A-F]{64}", digits):
        raise ValueError(
            "A SHA-256 fingerprint has 64 hexadecimal digits, like AA:BB:…; copy it again."
        )
    return ":".join(digits[i : i + 2] for i in range(0, 64, 2))
