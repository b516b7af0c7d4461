"""The vendored front-end files are the ones that `scripts/vendor.py` fetched."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "static"
HASHES = {
    name: digest
    for digest, name in (
        line.split() for line in (STATIC / "vendor" / "hashes.txt").read_text().splitlines()
    )
}


@pytest.mark.parametrize("name", HASHES)
def test_a_vendored_file_is_unchanged(name: str) -> None:
    assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == HASHES[name]


def test_every_vendored_file_is_listed() -> None:
    present = {path.relative_to(STATIC).as_posix() for path in (STATIC / "vendor").rglob("*")}
    assert present - {"vendor/VENDORED.md", "vendor/hashes.txt"} == set(HASHES) - {"icons.svg"}


def test_style_sheets_load_nothing_from_elsewhere() -> None:
    for sheet in STATIC.rglob("*.css"):
        text = sheet.read_text()
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", text), sheet


def test_pages_use_only_icons_of_the_sprite() -> None:
    icons = set(re.findall(r'<symbol id="([^"]+)"', (STATIC / "icons.svg").read_text()))
    used = {
        (icon, page.relative_to(ROOT).as_posix())
        for page in (ROOT / "templates").rglob("*.html")
        for icon in re.findall(
            r"""icons\.svg[^#"]*#([\w-]+)|{% icon ['"]([\w-]+)""", page.read_text()
        )
        for icon in icon
        if icon
    }
    assert not {(icon, page) for icon, page in used if icon not in icons}
