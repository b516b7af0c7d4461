"""`manage.py rotate_keys`: after it only the first of `FIELD_KEYS` is needed."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from orchestrator.db.rotation import rotate


class Command(BaseCommand):
    """Ends with 1 when a secret could not be decrypted: an older key is missing."""

    help = "Encrypt all secrets with the first key of FIELD_KEYS, so that older keys can go."

    def handle(self, *_: Any, **__: Any) -> None:
        done, stuck = rotate()
        for label, count in done.items():
            self.stdout.write(f"{label}: {count} encrypted anew")
        missing = {label: count for label, count in stuck.items() if count}
        for label, count in missing.items():
            self.stderr.write(f"{label}: {count} that no key of FIELD_KEYS decrypts")
        if missing:
            self.stderr.write("Add the key that was in use then to FIELD_KEYS, and run this again.")
            sys.exit(1)
        self.stdout.write("Only the first key of FIELD_KEYS is needed now.")
