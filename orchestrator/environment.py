"""Typed reading of environment variables, with sentences for bad values."""

from __future__ import annotations

import json
import math
import secrets
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
import dj_email_url  # type: ignore[import-untyped]
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from environs import FileAwareEnv


class Env(FileAwareEnv):
    """Environment variables, each also as `NAME_FILE`. Methods name the setting they refuse."""

    def positive(self, name: str, default: int) -> int:
        """Return a whole number of at least 1."""
        value = self._number(name, default)
        if value < 1 or value != int(value):
            raise ImproperlyConfigured(f"{name} must be a whole number of at least 1.")
        return int(value)

    def whole(self, name: str, default: int) -> int:
        """Return a whole number of at least 0."""
        value = self._number(name, default)
        if value < 0 or value != int(value):
            raise ImproperlyConfigured(f"{name} must be a whole number of at least 0.")
        return int(value)

    def seconds(self, name: str, default: float) -> float:
        """Return a duration in seconds, above 0."""
        value = self._number(name, default)
        if value <= 0:
            raise ImproperlyConfigured(f"{name} must be a number of seconds above 0.")
        return value

    def share(self, name: str, default: float) -> float:
        """Return a share, above 0 and at most 1."""
        value = self._number(name, default)
        if not 0 < value <= 1:
            raise ImproperlyConfigured(f"{name} must be a share, above 0 and at most 1.")
        return value

    def _number(self, name: str, default: float) -> float:
        text = self.str(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ImproperlyConfigured(f"{name} must be a number, not {text!r}.")
        return value

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """Return one of `allowed`."""
        value = self.str(name, default)
        if value not in allowed:
            raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}.")
        return value

    def log_level_name(self, name: str, default: str) -> str:
        """Return the name of a level of `logging`."""
        return self.choice(name, default, ("DEBUG", "INFO", "WARNING", "ERROR"))

    def public_url(self, name: str, default: str) -> str:
        """Return the address under which people reach the product; empty when not set."""
        value = self.str(name, default).rstrip("/")
        if value and not value.startswith(("http://", "https://")):
            raise ImproperlyConfigured(f"{name} must begin with http:// or https://.")
        return value

    def issuer(self, name: str, default: str) -> str:
        """Return the issuer of an OpenID provider, compared for equality; empty when not set."""
        value = self.str(name, default)
        try:
            parts = urlsplit(value)
            near = parts.hostname == "localhost" or ip_address(parts.hostname or "").is_private
        except ValueError:
            near = False
        if (
            value
            and not (parts.scheme == "https" and parts.hostname)
            and not (parts.scheme == "http" and near)
        ):
            raise ImproperlyConfigured(
                f"{name} must begin with https://; http:// only with a private address in it."
            )
        return value

    def names_by_key(self, name: str, default: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return a JSON object whose values are names or lists of names, as lists."""
        try:
            found = json.loads(self.str(name, "") or json.dumps(default))
            named = {key: [one] if isinstance(one, str) else one for key, one in found.items()}
        except (ValueError, AttributeError):
            named = {"": None}
        for names in named.values():
            if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
                raise ImproperlyConfigured(
                    f'{name} must be a JSON object such as {{"admins": "Administrator"}}.'
                )
        return named

    def origins(self, name: str, default: list[str]) -> list[str]:
        """Return origins of web pages (scheme, host and port), or `*` for all."""
        values: list[str] = self.list(name, default)
        for value in values:
            parts = urlsplit(value)
            if value != "*" and value != f"{parts.scheme}://{parts.netloc}":
                raise ImproperlyConfigured(
                    f"{name} must list origins such as https://console.example:8443, or *."
                )
        return values

    def folder(self, name: str, default: Path) -> Path:
        """Return a folder that can be written to; made for its owner alone if it is not there."""
        path: Path = self.path(name, default)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name}: the folder {path} cannot be made ({error.strerror})."
            ) from None
        return path

    def folders(self, name: str, default: list[str]) -> list[Path]:
        """Return a comma list of absolute folders, which need not exist."""
        found = [Path(text) for text in self.list(name, default) if text]
        if any(not folder.is_absolute() for folder in found):
            raise ImproperlyConfigured(f"{name} must be a comma list of absolute folders.")
        return found

    def syslog(self, name: str, default: str) -> str:
        """Return the URL of a syslog server; empty when not set."""
        value = self.str(name, default)
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            port = None
        if value and (parts.scheme not in ("udp", "tcp") or not parts.hostname or not port):
            raise ImproperlyConfigured(f"{name} must look like udp://host:514 or tcp://host:601.")
        return value

    def mail(self, name: str, default: str) -> str:
        """Return the URL of a mail server; empty when not set."""
        value = self.str(name, default)
        try:
            known = mail_of(value)
        except (ValueError, KeyError):
            known = {}
        if value and (not known.get("EMAIL_HOST") or not urlsplit(value).hostname):
            # The URL itself may hold a password: it is not repeated.
            raise ImproperlyConfigured(
                f"{name} must look like smtp+tls://user:password@host:587 or smtp://host:25."
            )
        return value

    def redis(self, name: str, default: str) -> str:
        """Return the URL of a Redis server."""
        value = self.str(name, default)
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ImproperlyConfigured(f"{name} must begin with redis://, rediss:// or unix://.")
        return value

    def fernet_keys(self, name: str, default: str) -> list[str]:
        """Return a comma list of Fernet keys, newest first; empty when the setting is."""
        return self.parse_fernet_keys(self.str(name, default))

    @staticmethod
    def parse_fernet_keys(text: str) -> list[str]:
        """Split and check a comma list of Fernet keys (32 bytes, URL-safe base64)."""
        keys = [key.strip() for key in text.split(",") if key.strip()]
        for key in keys:
            try:
                Fernet(key)
            except ValueError:
                raise ImproperlyConfigured(
                    "FIELD_KEYS must hold keys made by `cryptography.fernet.Fernet.generate_key()`."
                ) from None
        return keys

    def weights(self, name: str, default: dict[str, float]) -> dict[str, float]:
        """Return a JSON object of numbers over the defaults; unknown names are refused."""
        text = self.str(name, "{}")
        try:
            given = {key: float(value) for key, value in json.loads(text).items()}
        except (ValueError, AttributeError, TypeError):
            raise ImproperlyConfigured(f"{name} must be a JSON object of numbers.") from None
        if unknown := given.keys() - default.keys():
            raise ImproperlyConfigured(f"{name} has no weight named {', '.join(sorted(unknown))}.")
        return default | given


def mail_of(url: str) -> dict[str, Any]:
    """Return Django's settings for the mail server at the URL of `EMAIL_URL`; none without one."""
    if not url:
        return {}
    found = dj_email_url.parse(url)
    names = ("HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_TLS", "USE_SSL")
    return {f"EMAIL_{name}": found[f"EMAIL_{name}"] for name in names}


def embedded_secret(folder: Path, name: str, embedded: bool) -> str:
    """Return the secret kept in `folder/name`, made at the first start (mode 0600).

    Only for a single machine with its embedded database: anywhere else several processes need the
    same secret, so it must be given, and `ImproperlyConfigured` says so.
    """
    setting = {"secret-key": "SECRET_KEY", "field-key": "FIELD_KEYS"}[name]
    if not embedded:
        raise ImproperlyConfigured(f"{setting} must be set when DATABASE_URL is set.")
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Fernet.generate_key().decode() if name == "field-key" else secrets.token_urlsafe(50)
        temporary = folder / f".{name}-{secrets.token_hex(4)}"
        temporary.touch(mode=0o600)
        temporary.write_text(fresh)
        try:
            path.hardlink_to(temporary)  # the first process wins; the others read its secret
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_text().strip()


def database_of(url: str) -> dict[str, Any]:
    """Return Django's words for the database at the URL of `DATABASE_URL`."""
    if not url.startswith(("postgres://", "postgresql://", "sqlite:///")):
        raise ImproperlyConfigured("DATABASE_URL must begin with postgres:// or sqlite:///.")
    try:
        return dict(dj_database_url.parse(url))
    except (ValueError, KeyError):
        # The URL itself may hold a password: it is not repeated.
        raise ImproperlyConfigured(
            "DATABASE_URL must look like postgres://user:password@host:5432/name."
        ) from None


def sqlite_options() -> dict[str, Any]:
    """Return the options that let several processes share one SQLite file without lock errors."""
    return {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8000"
        ),
    }


def postgres_pool(threads: int) -> dict[str, Any]:
    """Return the connection pool of one process with so many threads."""
    return {"min_size": 1, "max_size": threads + 2, "timeout": 5}
