"""`manage.py setup_code`: the code with which the first administrator is made at `/setup/`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.signin import first


class Command(BaseCommand):
    """Prints the code, and nothing else, on standard output."""

    help = "Print the code for the page /setup/, while there is no administrator."

    def handle(self, *_: Any, **__: Any) -> None:
        if not first.is_wanted():
            raise CommandError("There is an administrator already.")
        self.stdout.write(first.code())
