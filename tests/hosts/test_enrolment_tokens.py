"""Enrolment tokens: single use, bound to a name, burnt only by success."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from django.db import connections
from django.urls import reverse

from accounts.models import AuditEvent, User
from hosts import enrolment_tokens
from hosts.models import EnrolmentToken, Host
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.api.conftest import Api, make_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.actors import Actor
    from tests.hosts.conftest import Pool

LOGIN = {"username": "root@localhost", "password": "simulated"}


def kinds() -> set[str]:
    return set(AuditEvent.objects.values_list("action", flat=True))


@pytest.mark.django_db(transaction=True)
def test_only_success_burns_it(pool: Pool, admin: Actor) -> None:
    token, text = enrolment_tokens.create(admin, host_name="mac2", minutes=5)
    assert len(text) == 72
    assert text not in repr(EnrolmentToken.objects.values().get())
    with pytest.raises(Forbidden):
        enrolment_tokens.enrol(text, name="mac3", url=pool.address(), **LOGIN)
    with pytest.raises(Forbidden):
        enrolment_tokens.enrol("0" * 72, name="mac2", url=pool.address(), **LOGIN)
    with pytest.raises(Invalid):
        enrolment_tokens.enrol(text, name="mac2", url="http://127.0.0.1:1", **LOGIN)
    assert enrolment_tokens.find_live(text) == token
    host = enrolment_tokens.enrol(text, name="MAC2", url=pool.address(), **LOGIN)
    assert (host.name, host.added_by) == ("mac2", admin.user)
    token.refresh_from_db()
    assert (token.state, token.host) == ("used", host)
    with pytest.raises(Forbidden):
        enrolment_tokens.enrol(text, name="mac2", url=pool.address(2), **LOGIN)
    with pytest.raises(Conflict):
        enrolment_tokens.revoke(admin, token)
    assert {"enrolment_token.created", "enrolment_token.used", "host.enrolled"} <= kinds()


@pytest.mark.stores
@pytest.mark.django_db(transaction=True)
def test_of_two_hosts_at_once_one_enrols(pool: Pool, admin: Actor) -> None:
    _, text = enrolment_tokens.create(admin, host_name="mac2")

    def enrol(number: int) -> str:
        try:
            enrolment_tokens.enrol(text, name="mac2", url=pool.address(number), **LOGIN)
        except (Forbidden, Invalid) as refusal:
            return refusal.code
        finally:
            connections.close_all()
        return "enrolled"

    with ThreadPoolExecutor(2) as threads:
        answers = sorted(threads.map(enrol, (1, 2)))
    assert answers[0] == "enrolled"
    assert answers[1] in ("enrolment_token", "name_taken")
    assert Host.objects.present().count() == 1


@pytest.mark.django_db(transaction=True)
def test_it_ends_with_the_rights_of_its_maker(
    pool: Pool, admin: Actor, olga: User, actor_of: Callable[[User], Actor]
) -> None:
    _, text = enrolment_tokens.create(actor_of(olga), host_name="mac2")
    User.objects.filter(pk=olga.pk).update(is_active=False)
    with pytest.raises(Forbidden):
        enrolment_tokens.enrol(text, name="mac2", url=pool.address(), **LOGIN)
    User.objects.filter(pk=olga.pk).update(is_active=True)
    olga.groups.clear()
    with pytest.raises(Forbidden):
        enrolment_tokens.enrol(text, name="mac2", url=pool.address(), **LOGIN)
    token, text = enrolment_tokens.create(admin, host_name="mac2")
    enrolment_tokens.revoke(admin, token)
    assert enrolment_tokens.find_live(text) is None
    assert not Host.objects.exists()


@pytest.mark.django_db
def test_page_and_api(client: Client, alice: User, bob: User) -> None:
    admin = Api(make_token(alice, "admin"))
    made = admin.post("enrolment-tokens/", {"host_name": "mac2", "minutes": 30})
    assert (made.status_code, len(made.json()["token"])) == (201, 72)
    listed = admin.get("enrolment-tokens/").json()["results"]
    assert [(row["host_name"], row["state"], "token" in row) for row in listed] == [
        ("mac2", "live", False)
    ]
    assert admin.post("enrolment-tokens/", {"host_name": "m", "minutes": 0}).status_code == 400
    revoked = admin.post(f"enrolment-tokens/{listed[0]['id']}/revoke/")
    assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
    assert (
        Api(make_token(alice, "vms")).post("enrolment-tokens/", {"host_name": "x"}).status_code
        == 403
    )
    assert Api(make_token(bob, "admin")).get("enrolment-tokens/").json()["results"] == []

    client.force_login(alice, "allauth.account.auth_backends.AuthenticationBackend")
    shown = client.post(reverse("hosts:new-enrolment-token"), {"host_name": "mac3", "minutes": 5})
    token = EnrolmentToken.objects.get(host_name="mac3")
    text = shown.content.decode().partition('<code id="secret">')[2][:72]
    assert enrolment_tokens.find_live(text) == token
    page = client.get(reverse("hosts:enrolment-tokens")).content.decode()
    assert "mac3" in page
    assert text not in page
    client.post(reverse("hosts:revoke-enrolment-token", args=[token.pk]))
    assert enrolment_tokens.find_live(text) is None
    client.force_login(bob, "allauth.account.auth_backends.AuthenticationBackend")
    assert client.get(reverse("hosts:enrolment-tokens")).status_code == 403
