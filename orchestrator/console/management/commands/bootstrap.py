"""`manage.py bootstrap`: the first administrator and the demo pool. Running it again is safe."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.actors import SYSTEM, Actor
from accounts.models import Role, User
from accounts.roles import sync_shipped_roles
from accounts.users import create_user
from catalog import images, sources
from catalog.models import CatalogSource, Image
from hosts import enrolment
from hosts.models import Host
from orchestrator.refusals import Refusal
from vms.grants import grant_template
from vms.models import Grant, Template
from vms.templates import create_template

if TYPE_CHECKING:
    from argparse import ArgumentParser

ADMINISTRATOR = "admin"
PASSWORD_FILE = "admin-password"
HOSTS = 3
LOGIN = ("root@localhost", "simulated")
HOUR, DAY = 3600, 86_400
SOURCE = ("Demo catalog", "host=https://catalog.example.com")
# name: image and what a VM of it gets
TEMPLATES: dict[str, dict[str, Any]] = {
    "macos-xcode": {
        "image": {"catalog_id": "MACOS-XCODE", "version": "v1", "type": "macvm"},
        "description": "macOS with Xcode, for builds and tests of Apple platforms.",
        "os": "macos",
        "cpus": 4,
        "memory_mib": 8192,
        "disk_gib": 64,
    },
    "ubuntu-ci": {
        "image": {"catalog_id": "UBUNTU-CI", "version": "v1", "type": "pvm"},
        "description": "Ubuntu with the usual build tools.",
        "os": "linux",
        "cpus": 2,
        "memory_mib": 2048,
        "disk_gib": 64,
    },
}
GRANTED_ROLES = ("Administrator", "Developer")


class Command(BaseCommand):
    """Prints `password: …` only when it made the administrator."""

    help = "Make the first administrator, and with --demo simulated hosts, images and templates."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--demo", action="store_true", help="also make the demo pool")
        parser.add_argument("--simulator-url", default="", help="where the simulated hosts are")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["demo"] and not options["simulator_url"]:
            raise CommandError("--demo needs --simulator-url, such as http://127.0.0.1:9000.")
        sync_shipped_roles()
        try:
            administrator = self._administrator()
            if options["demo"]:
                self._demo(
                    Actor(user=administrator) if administrator else SYSTEM,
                    options["simulator_url"].rstrip("/"),
                )
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal

    def _administrator(self) -> User | None:
        """Make the first administrator unless there is one; return who it is."""
        administrators = User.objects.filter(
            groups__name="Administrator", kind=User.Kind.PERSON, is_active=True
        )
        if found := administrators.order_by("pk").first():
            return found
        password = secrets.token_urlsafe(15)
        # Written before the account is made: a password that nobody knows locks everybody out.
        path = settings.VAR_DIR / PASSWORD_FILE
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(f"{password}\n")
        user = create_user(
            SYSTEM,
            username=ADMINISTRATOR,
            password=password,
            roles=[Role.objects.get(group__name="Administrator")],
        )
        self.stdout.write(f"password: {password}")
        return user

    def _demo(self, actor: Actor, url: str) -> None:
        for number in range(1, HOSTS + 1):
            name, address = f"mac-{number}", f"{url}/h/{number}"
            # A host that was removed on purpose stays away.
            if not Host.objects.filter(name=name).exists():
                enrolment.enrol(actor, name=name, url=address, username=LOGIN[0], password=LOGIN[1])
        source = CatalogSource.objects.filter(name=SOURCE[0]).first() or sources.add_source(
            actor, name=SOURCE[0], connection=SOURCE[1]
        )
        architecture = (
            Host.objects.filter(name="mac-1").values_list("status__architecture", flat=True).first()
            or "arm64"
        )
        for name, about in TEMPLATES.items():
            if Template.objects.filter(name=name).exists():
                continue
            _template(actor, name, dict(about), source, architecture)


def _template(
    actor: Actor, name: str, about: dict[str, Any], source: CatalogSource, architecture: str
) -> None:
    wanted = about.pop("image") | {"architecture": architecture}
    image = Image.objects.filter(source=source, **wanted).first() or images.add_image(
        actor, source=source, pack_size_mib=8192, **wanted
    )
    template = create_template(
        actor,
        name=name,
        images=[image],
        default_lease_seconds=8 * HOUR,
        maximum_lease_seconds=7 * DAY,
        **about,
    )
    for role in Role.objects.filter(group__name__in=GRANTED_ROLES):
        if not Grant.objects.filter(template=template, role=role).exists():
            grant_template(actor, template=template, role=role)
