"""Settings: the page lists them all, and a bad value stops the start with one sentence."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([A-Z_]+)` \|([^|]+)\|([^|]*)\|([^|]+)\|$", re.MULTILINE)
TYPES = {
    "bool": {"boolean"},
    "positive": {"number", "days", "hours", "seconds"},
    "whole": {"days", "number"},
    "seconds": {"seconds"},
    "share": {"share"},
    "choice": {"choice"},
    "log_level_name": {"choice"},
    "list": {"comma list"},
    "origins": {"comma list"},
    "fernet_keys": {"comma list"},
    "weights": {"JSON"},
    "folder": {"path"},
    "folders": {"comma list"},
    "path": {"path"},
    "public_url": {"URL"},
    "redis": {"URL"},
    "syslog": {"URL"},
    "issuer": {"URL"},
    "mail": {"URL"},
    "names_by_key": {"JSON"},
    "str": {"text", "URL"},
}
KEY = "SrUXSrlXUe9pPM8kVcHWgYvbKSOFmFMcpkTuVVNfzQM="  # decrypts nothing: only of this test


def settings_read() -> dict[str, tuple[str, ast.expr]]:
    """Return name → (method, default) of every `env.method("NAME", default)` in settings.py."""
    tree = ast.parse((ROOT / "orchestrator" / "settings.py").read_text())
    return {
        str(call.args[0].value): (call.func.attr, call.args[1])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "env"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }


def shown(default: ast.expr) -> str:
    """Return a default as the page shows it."""
    try:
        value: Any = ast.literal_eval(default)
    except ValueError:  # BASE_DIR / "var"
        assert isinstance(default, ast.BinOp)
        name = f"`{ast.literal_eval(default.right)}`"
        return name if ast.unparse(default.left) == "BASE_DIR" else f"{name} in `VAR_DIR`"
    if value in ("", []):
        return ""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, list):
        text = ",".join(value)
    elif isinstance(value, dict):
        text = json.dumps(value)
    else:
        text = str(value)
    return f"`{text}`"


def test_the_page_lists_every_setting_with_its_type_and_default() -> None:
    rows = {name: cells for name, *cells in ROW.findall((ROOT / "docs/settings.md").read_text())}
    read = settings_read()
    assert len(read) > 30
    assert set(rows) == set(read)
    for name, (method, default) in read.items():
        kind, told, _meaning = (cell.strip() for cell in rows[name])
        assert kind in TYPES[method], name
        assert told == shown(default), name


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DEBUG": "perhaps"}, ["DEBUG", "boolean"]),
        ({"WEB_THREADS": "0"}, ["WEB_THREADS", "at least 1"]),
        ({"AUDIT_RETENTION_DAYS": "-1"}, ["AUDIT_RETENTION_DAYS", "at least 0"]),
        ({"COMPAT_CORS_ORIGINS": "console.example"}, ["COMPAT_CORS_ORIGINS", "https://console"]),
        ({"AUDIT_SYSLOG": "localhost:514"}, ["AUDIT_SYSLOG", "udp://host:514"]),
        ({"AUDIT_SYSLOG": "tcp://localhost:high"}, ["AUDIT_SYSLOG", "tcp://host:601"]),
        ({"HOST_POLL_SECONDS": "ten"}, ["HOST_POLL_SECONDS", "must be a number"]),
        ({"LOG_FORMAT": "xml"}, ["LOG_FORMAT", "json, console"]),
        ({"REDIS_URL": "http://127.0.0.1"}, ["REDIS_URL", "redis://"]),
        ({"FIELD_KEYS": "short"}, ["FIELD_KEYS", "generate_key"]),
        ({"PLACEMENT_WEIGHTS": "[1]"}, ["PLACEMENT_WEIGHTS", "JSON object"]),
        ({"SECRET_KEY_FILE": "/nowhere"}, ["SECRET_KEY_FILE", "readable"]),
        ({"DATABASE_URL": "postgres://u:p@127.0.0.1/d"}, ["SECRET_KEY", "DATABASE_URL"]),
        ({"DATABASE_URL": "mysql://u:p@127.0.0.1/d"}, ["DATABASE_URL", "postgres://"]),
        ({"DATABASE_URL": "postgres://u:p@127.0.0.1:port/d"}, ["DATABASE_URL", "5432"]),
        ({"VAR_DIR": "/proc/nowhere"}, ["VAR_DIR", "/proc/nowhere"]),
        ({"JOB_LEASE_SECONDS": "nan"}, ["JOB_LEASE_SECONDS", "must be a number"]),
        ({"PUBLIC_URL": "example.com"}, ["PUBLIC_URL", "https://"]),
        ({"OIDC_ISSUER": "http://example.com"}, ["OIDC_ISSUER", "https://"]),
        ({"OIDC_ISSUER": "http://10.0.0.1"}, ["OIDC_CLIENT_ID", "OIDC_ISSUER"]),
        ({"OIDC_ROLES": '{"admins": [1]}'}, ["OIDC_ROLES", "JSON object"]),
        ({"EMAIL_URL": "smtp://u:p@"}, ["EMAIL_URL", "smtp://host:25"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_bad_value_stops_the_start_with_one_sentence(
    tmp_path: Path, environment: dict[str, str], words: list[str]
) -> None:
    done = start(tmp_path, environment)
    assert done.returncode == 1
    assert done.stderr.startswith("orchestrator: bad setting: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not any(secret in done.stderr for secret in ("u:p@", KEY))


def test_a_secret_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert start(tmp_path, {"FIELD_KEYS_FILE": str(file)}).returncode == 0


def start(var: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Read the settings as every process does at its start, with nothing else set."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", "import orchestrator.settings"],
        cwd=ROOT,
        env=plain | {"VAR_DIR": str(var)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
