from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User


@pytest.fixture
def as_(client: Client) -> Callable[[User], Client]:
    """Sign somebody in and return the client."""

    def sign_in(user: User) -> Client:
        client.force_login(user)
        return client

    return sign_in
