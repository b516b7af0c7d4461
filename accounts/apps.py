from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    """Users, roles, service accounts, tokens, audit."""

    name = "accounts"

    def ready(self) -> None:
        from accounts.roles import sync_shipped_roles
        from accounts.signin import signals

        # Shipped roles follow their table when the database is made or migrated. The other signals
        # are allauth's, which has no hook for what they tell.
        signals.connect()
        post_migrate.connect(sync_shipped_roles, sender=self)
