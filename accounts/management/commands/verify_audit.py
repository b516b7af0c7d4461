"""`manage.py verify_audit`: whether the audit trail is whole."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from accounts import audit
from accounts.models import AuditEvent


class Command(BaseCommand):
    """Ends with 1 when an event is missing or was changed."""

    help = "Check numbers and hashes of the audit trail, and print its head."

    def handle(self, *_: Any, **__: Any) -> None:
        verdict = audit.verify()
        audit.keep(verdict)
        unsealed = AuditEvent.objects.filter(sequence__isnull=True).count()
        self.stdout.write(f"events: {verdict.checked}")
        if verdict.pruned:
            self.stdout.write(f"pruned up to number: {verdict.pruned}")
        self.stdout.write(f"unsealed: {unsealed}")
        self.stdout.write(f"head: {verdict.head}")
        if verdict.broken_at is not None:
            self.stderr.write(f"broken at number {verdict.broken_at}: {verdict.reason}")
            sys.exit(1)
        self.stdout.write("intact")
