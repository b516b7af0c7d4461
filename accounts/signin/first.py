"""The first administrator, made on a page, by whoever can read the server's log.

The page works while there is no administrator, and with a code that is not on it: a stranger who
reaches the port first cannot take the installation.
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction

from accounts.models import Role, User
from accounts.roles import sync_shipped_roles
from accounts.users import ADMINISTRATOR, create_user
from orchestrator.refusals import Conflict, Invalid

if TYPE_CHECKING:
    from uuid import UUID

    from accounts.actors import Actor

log = structlog.get_logger(__name__)
CODE_LENGTH = 20  # of base32: 100 bits


def is_wanted() -> bool:
    """Return whether there is no administrator yet."""
    return not User.objects.filter(
        groups__name=ADMINISTRATOR, kind=User.Kind.PERSON, is_active=True
    ).exists()


def code() -> str:
    """Return the code of this installation: of its `SECRET_KEY` and its database."""
    sync_shipped_roles()
    role_id: UUID = Role.objects.get(group__name=ADMINISTRATOR).pk
    told = hmac.digest(settings.SECRET_KEY.encode(), f"setup:{role_id}".encode(), "sha256")
    return base64.b32encode(told).decode().lower()[:CODE_LENGTH]


def tell() -> None:
    """Write the code into the log, where only who runs the server can read it."""
    log.warning("setup.code", code=code(), hint="Enter it at /setup/ to make an administrator.")


def make(actor: Actor, given: str, *, username: str, password: str, email: str = "") -> User:
    """Make the first administrator; `actor` is the product, at the address of who has the code.

    Raises `Invalid`, or `Conflict` when there is one already.
    """
    if not hmac.compare_digest(given.strip().lower().encode(), code().encode()):
        raise Invalid.field("code", "This is not the code. The server's log has it.")
    with transaction.atomic():
        Group.objects.select_for_update().get(name=ADMINISTRATOR)  # one at a time
        if not is_wanted():
            raise Conflict("There is an administrator already. Ask them for an account.")
        return create_user(
            actor,
            username=username,
            email=email,
            password=password,
            roles=[Role.objects.get(group__name=ADMINISTRATOR)],
            source="first run",
        )
