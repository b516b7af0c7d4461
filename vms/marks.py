"""Our ownership mark in the names of VMs and folders on hosts: `<slug>-<mark>`."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from orchestrator.db.ids import CROCKFORD, MARK_LENGTH

_MARK = re.compile(rf"-([{CROCKFORD}]{{{MARK_LENGTH}}})\Z")


def mark_of(name: str) -> str:
    """Return the mark that a VM's name on a host ends with; empty without one."""
    found = _MARK.search(name)
    return found[1] if found else ""


def mark_of_folder(path: str) -> str:
    """Return the mark of a VM's folder, such as `…/build-1-0123456789ABCDEF.pvm`."""
    return mark_of(PurePosixPath(path).stem)
