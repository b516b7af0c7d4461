"""docs/security.md maps promises to tests: each of them exists, and each promise has one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security.md"
REFERENCE = re.compile(r"`((?:tests|scripts)/[\w/.]+)?(?:::(\w+))?`")
HEADING = "## Promises and their tests"


def rows() -> list[tuple[str, str]]:
    """Return promise and tests of each row of the tables behind the heading."""
    lines = PAGE.read_text().partition(HEADING)[2].splitlines()
    cells = [line.strip("|").split(" | ") for line in lines if line.startswith("|")]
    return [
        (cell[0].strip(), cell[-1].strip())
        for cell in cells
        if not set(cell[0]) <= set("- |") and cell[0].strip() != "Promise"
    ]


def references(tests: str) -> list[tuple[str, str]]:
    """Return path and name (may be empty) of each test; a name alone is in the file before."""
    found, path = [], ""
    for match in REFERENCE.finditer(tests):
        path = match[1] or path
        if match[1] or match[2]:
            found.append((path, match[2] or ""))
    return found


def test_every_test_that_the_table_names_exists() -> None:
    missing = []
    for promise, tests in rows():
        named = references(tests)
        if not named:
            missing.append(f"{promise}: no test")
        for path, name in named:
            file = ROOT / path
            if not file.exists():
                missing.append(f"{promise}: {path}")
            elif name and not re.search(rf"^\s*(async )?def {name}\(", file.read_text(), re.M):
                missing.append(f"{promise}: {path}::{name}")
    assert missing == []
    assert len(rows()) > 40


def test_the_check_sees_what_is_wrong() -> None:
    assert references("`tests/a.py::one`, `::two`, `tests/b.py`") == [
        ("tests/a.py", "one"),
        ("tests/a.py", "two"),
        ("tests/b.py", ""),
    ]
