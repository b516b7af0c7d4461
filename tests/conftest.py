"""The cast: Alice administers and grants, Bob develops and is granted, Charlie is nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.hashers import get_hashers

from tests.support.simulation import Simulation, simulated_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from accounts.actors import Actor
    from accounts.models import User


def _account(name: str, *roles: str) -> User:
    from django.contrib.auth.models import Group

    from accounts.models import User
    from accounts.roles import sync_shipped_roles

    sync_shipped_roles()
    user = User.objects.create_user(username=name, password="correct horse battery")
    user.groups.set(Group.objects.filter(name__in=roles))
    return user


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a running product in one process: starting another takes long."""
    for item in items:
        shared = {"site", "team"} & set(getattr(item, "fixturenames", ()))
        if shared:
            name = "site" if "site" in shared else item.path.stem
            item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture
def alice(db: None) -> User:
    """An Administrator."""
    return _account("alice", "Administrator")


@pytest.fixture
def olga(db: None) -> User:
    """An Operator."""
    return _account("olga", "Operator")


@pytest.fixture
def bob(db: None) -> User:
    """A Developer."""
    return _account("bob", "Developer")


@pytest.fixture
def audrey(db: None) -> User:
    """An Auditor."""
    return _account("audrey", "Auditor")


@pytest.fixture
def charlie(db: None) -> User:
    """Somebody with an account and no role."""
    return _account("charlie")


@pytest.fixture
def actor_of() -> Callable[[User], Actor]:
    """Return the actor of an account, as a page's session makes it."""
    from accounts.actors import Actor

    def make(user: User) -> Actor:
        return Actor(user=user, address="127.0.0.1")

    return make


@pytest.fixture(scope="session")
def simulation() -> Iterator[Simulation]:
    """Three simulated hosts, shared by the session. Use `hosts_of_simulation` for a clean start."""
    with simulated_hosts(3) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_bells(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ring no bells in tests without a broker: the sweeper, or the test, runs what is due."""
    if "broker" not in request.fixturenames:
        monkeypatch.setattr("jobs.bell._send", lambda *args, **kwargs: False)
        monkeypatch.setattr("orchestrator.web.wake.wake", lambda name: None)
        monkeypatch.setattr("orchestrator.web.wake.first", lambda name, seconds: True)
        monkeypatch.setattr("orchestrator.web.wake.forget", lambda name: None)


@pytest.fixture(autouse=True)
def _just_signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `client.force_login` be what it stands for: a sign-in with a password, just now."""
    from django.test import Client

    force_login = Client.force_login

    def sign_in(client: Client, user: User, backend: str | None = None) -> None:
        force_login(client, user, backend)
        session = client.session
        session["account_authentication_methods"] = [{"method": "password", "at": time.time()}]
        session["account_authentication_methods_user"] = str(user.pk)
        session["orchestrator_seen_at"] = time.time()
        session.save()

    monkeypatch.setattr(Client, "force_login", sign_in)


@pytest.fixture(autouse=True)
def _fast_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash test passwords quickly: the product's hasher is slow on purpose."""
    from django.conf import settings

    hasher = "django.contrib.auth.hashers.MD5PasswordHasher"
    monkeypatch.setattr(settings, "PASSWORD_HASHERS", [hasher])
    get_hashers.cache_clear()
