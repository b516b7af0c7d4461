"""Connection strings as the contract has them (4.3): where a catalog or a storage is.

`host=user:password@https://catalog:443` (or a base64 API key before the `@`) names a catalog,
`provider=<type>;key=value;…` a storage. Imports neither Django nor a room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CLEAR = {
    *("bucket", "region", "endpoint", "use_ssl", "ignore_cert", "use_environment_authentication"),
    *("storage_account_name", "container_name", "url", "port", "repo", "catalog_path"),
}
"""Keys whose values are no secret. Everything else is hidden, known to us or not."""
HIDDEN = "****"


@dataclass(frozen=True)
class Provider:
    """A storage and how to reach it. `options` has secrets, which do not show in `repr`."""

    type: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def get(self, name: str) -> str:
        return self.options.get(name, "")

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a switch; raises nothing: what is neither true nor false is the default."""
        value = self.get(name).lower()
        return default if value not in ("true", "false") else value == "true"


@dataclass(frozen=True)
class Address:
    """Another catalog and how to log in: a user with a password, or an API key in base64."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)


def parts_of(connection: str) -> dict[str, str]:
    """Return the keys, in lower case, and values of a connection string.

    Raises `ValueError` with a sentence for a part that has no value or comes twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in connection.split(";"))):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals or not name:
            raise ValueError("Write the connection as key=value pairs with ; between them.")
        if name in found:
            raise ValueError(f"The connection names {name} twice.")
        found[name] = value.strip()
    return found


def provider_of(connection: str) -> Provider | None:
    """Return the storage that the string names, or None. Raises `ValueError` as `parts_of`."""
    found = parts_of(connection)
    kind = found.pop("provider", "").lower()
    found.pop("host", None)
    return Provider(kind, found) if kind else None


def address_of(connection: str) -> Address | None:
    """Return the catalog that the string names, or None. Raises `ValueError` as `parts_of`."""
    host = parts_of(connection).get("host", "")
    if not host:
        return None
    login, at, url = host.rpartition("@")
    if "://" in login and "://" not in url:  # scheme://user:password@host
        scheme, _, login = login.partition("://")
        url = f"{scheme}://{url}"
    if "://" not in url:
        url = f"https://{url}"
    user, colon, password = login.partition(":")
    if at and not colon:
        return Address(url.rstrip("/"), api_key=login)
    return Address(url.rstrip("/"), user, password)


def joined(**parts: str) -> str:
    """Return a connection string of these parts, in their order; empty ones are left out."""
    return ";".join(f"{name}={value}" for name, value in parts.items() if value)


def provider_string(provider: Provider, **more: str) -> str:
    """Return the connection string of a storage, with `more` keys."""
    return joined(provider=provider.type, **dict(provider.options), **more)


def masked(connection: str) -> str:
    """Return what may be shown of a connection: enough to tell it from another, no secret."""
    try:
        found = parts_of(connection)
        address = address_of(connection)
    except ValueError:
        return HIDDEN
    shown = []
    if address:
        login = f"{HIDDEN}@" if "@" in found["host"] else ""
        shown.append(f"host={login}{address.url}")
    if kind := found.get("provider"):
        shown.append(f"provider={kind}")
    for name, value in found.items():
        if name not in ("host", "provider"):
            shown.append(f"{name}={value if name in CLEAR and '@' not in value else HIDDEN}")
    return ";".join(shown) if address or kind else HIDDEN
