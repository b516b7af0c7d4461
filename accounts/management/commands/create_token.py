"""`manage.py create_token`: a token for a first pipeline."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts import tokens
from accounts.actors import SYSTEM
from accounts.models import User
from accounts.permissions import SCOPES
from orchestrator.refusals import Refusal
from orchestrator.web import names

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Prints the token, and nothing else, on standard output."""

    help = "Make an API token for an account and print it, this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="name of the account")
        parser.add_argument("--name", required=True, help="where the token is used")
        parser.add_argument(
            "--scopes", required=True, help=f"comma list of: {', '.join(sorted(SCOPES))}"
        )
        parser.add_argument("--expires-in-days", type=float, help="default: never")
        parser.add_argument("--maximum-vms", type=int, help="that exist at once; default: any")
        parser.add_argument(
            "--network",
            action="append",
            default=[],
            metavar="CIDR",
            help="allow only requests from there (10.0.0.0/8); may be given several times",
        )
        parser.add_argument(
            "--template",
            action="append",
            default=[],
            metavar="NAME",
            help="allow only this template (name or id); may be given several times",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        user = User.objects.filter(username__iexact=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no account {options['user']!r}.")
        days = options["expires_in_days"]
        try:
            _token, clear_text = tokens.create_token(
                SYSTEM,
                name=options["name"],
                scopes=[scope.strip() for scope in options["scopes"].split(",") if scope.strip()],
                user=user,
                templates=[_template(text) for text in options["template"]] or None,
                networks=options["network"] or None,
                maximum_vms=options["maximum_vms"],
                expires_at=timezone.now() + timedelta(days=days) if days is not None else None,
            )
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        self.stdout.write(clear_text)


def _template(text: str) -> UUID:
    """Return the id of a template named by id or name; `CommandError` when there is none."""
    found = names.find("template", text)
    if found is None:
        raise CommandError(f"There is no template {text!r}.")
    return found
