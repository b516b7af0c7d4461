"""``manage.py simulate_hosts``: a thin door to ``hosts.simulator``; needs no database."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hosts.simulator import cli


class Command(BaseCommand):
    """Serve simulated hosts until a signal ends it."""

    help = cli.DESCRIPTION
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the simulator's flags."""
        cli.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; bad flags and a taken port become one sentence."""
        try:
            cli.run(options)
        except ValueError as error:
            raise CommandError(str(error)) from error
