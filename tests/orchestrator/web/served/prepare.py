"""Makes the served product's tables and its cast; prints tokens and session keys as JSON."""

from __future__ import annotations

import json
import sys

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth import (  # noqa: E402
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
)
from django.contrib.auth.models import Group  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402

from accounts.actors import Actor  # noqa: E402
from accounts.models import Role, User  # noqa: E402
from accounts.roles import sync_shipped_roles  # noqa: E402
from accounts.tokens import create_token  # noqa: E402
from events.sealing import seal_events  # noqa: E402

CAST = {
    "alice": "Administrator",
    "bob": "Developer",
    "carol": "Operator",
    "dave": "Developer",
    "erin": "Developer",
    "fay": "Lead",
    "frank": "Developer",
    "grace": "Auditor",
}


def main() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    sync_shipped_roles()
    lead = Role.objects.create(
        group=Group.objects.create(name="Lead"), permissions=["vms.use", "vms.view_roles"]
    )
    made = {}
    for name, role in CAST.items():
        user = User.objects.create_user(username=name, password="correct horse battery")
        user.groups.set(Group.objects.filter(name=role))
        tokens = [
            create_token(Actor(user), name=f"{name}-{number}", scopes=["read"])[1]
            for number in range(3)
        ]
        made[name] = {
            "id": str(user.pk),
            "lead": str(lead.pk),
            "tokens": tokens,
            "sessions": [session_of(user) for _ in range(3)],
        }
    seal_events()
    sys.stdout.write(json.dumps(made))


def session_of(user: User) -> str:
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    assert session.session_key
    return session.session_key


main()
