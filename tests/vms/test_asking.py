"""Asking for access: nothing is revealed, one request is open at a time, an answer ends it."""

from __future__ import annotations

from datetime import timedelta
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.utils import timezone

from accounts import users
from accounts.actors import Actor
from accounts.models import AuditEvent, Role, User
from events.models import Event
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound, Refusal
from tests.api.conftest import Api, make_token
from tests.vms.test_access import make
from vms import asking, grants, templates
from vms.models import AccessRequest, Grant, Template

if TYPE_CHECKING:
    from django.test import Client


@pytest.fixture
def root(alice: User) -> Actor:
    return Actor(user=alice)


@pytest.fixture
def owner(root: Actor, charlie: User) -> Actor:
    """Charlie, who has no role, and manages the template by a grant."""
    return Actor(user=charlie)


@pytest.fixture
def template(root: Actor, owner: Actor) -> Template:
    template = make(root)
    grants.grant_template(root, template=template, user=owner.user, level="manage")
    return template


def shape(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("id", "created_at")}


def test_a_name_that_one_may_not_see_looks_like_one_that_is_none(
    bob: User, template: Template, client: Client
) -> None:
    api = Api(make_token(bob, "vms"))
    hidden = api.post("access-requests/", {"template": "UBUNTU-ci", "reason": "build"})
    absent = api.post("access-requests/", {"template": "UBUNTU-c2", "reason": "build"})
    assert (hidden.status_code, absent.status_code) == (201, 201)
    assert shape(hidden.json()) == shape(absent.json()) | {"template": "UBUNTU-ci"}
    by_id = api.post("access-requests/", {"template": str(template.pk), "reason": "build"})
    assert by_id.status_code == 404
    twice = [
        api.post("access-requests/", {"template": name, "reason": "again"}).json()["code"]
        for name in ("ubuntu-ci", "ubuntu-c2")
    ]
    assert twice == ["already_asked", "already_asked"]
    assert not Event.objects.filter(owner_id=bob.pk, kind__startswith="access_request").exists()
    assert len(api.get("access-requests/?state=open").json()["results"]) == 2
    client.force_login(bob)
    page = client.get("/access-requests/").content.decode()
    assert "UBUNTU-c2" in page
    assert str(template.pk) not in page
    assert "there is none" not in page


def test_a_manager_approves_with_limits_and_an_end(
    bob: User, owner: Actor, template: Template
) -> None:
    asked = asking.request_access(Actor(user=bob), template="ubuntu-ci", reason="nightly")
    end = timezone.now() + timedelta(hours=8)
    assert list(AccessRequest.objects.visible_to(owner)) == [asked]
    job = asking.approve(owner, asked, maximum_vms=2, expires_at=end, answer="until tonight")
    asked.refresh_from_db()
    assert (asked.state, asked.answer, asked.answered_by) == (
        "approved",
        "until tonight",
        owner.user,
    )
    grant = Grant.objects.get(pk=job.result["grant"])
    assert asked.grant == grant
    assert (grant.user, grant.level, grant.maximum_vms, grant.expires_at) == (bob, "use", 2, end)
    assert AuditEvent.objects.filter(action="access.approved", actor_id=owner.user_id).exists()
    told = Event.objects.get(kind="access_request.approved")
    assert told.owner_id == bob.pk
    for again in (asking.approve, asking.decline):
        with pytest.raises(Conflict, match="answered already"):
            again(owner, asked, answer="no")
    assert Grant.objects.filter(user=bob).count() == 1
    # What was answered has ended: one may ask again.
    asking.request_access(Actor(user=bob), template="ubuntu-ci", reason="more")


def test_declining_needs_a_word_and_the_right(
    root: Actor, bob: User, owner: Actor, template: Template, audrey: User, olga: User
) -> None:
    asked = asking.request_access(Actor(user=bob), template="ubuntu-ci", reason="nightly")
    with pytest.raises(Forbidden):
        asking.approve(Actor(user=bob), asked)
    for reader in (audrey, olga):  # they see every template, and manage none
        with pytest.raises(Forbidden):
            asking.decline(Actor(user=reader), asked, answer="no")
    dora = users.create_user(root, username="dora", roles=[])
    with pytest.raises(NotFound):
        asking.decline(Actor(user=dora), asked, answer="no")
    with pytest.raises(Invalid):
        asking.decline(owner, asked, answer=" ")
    asking.decline(owner, asked, answer="use the small one")
    asked.refresh_from_db()
    assert (asked.state, asked.answer) == ("declined", "use the small one")
    assert not Grant.objects.filter(user=bob).exists()


def test_one_withdraws_only_ones_own(bob: User, owner: Actor, template: Template) -> None:
    asked = asking.request_access(Actor(user=bob), template="ubuntu-ci", reason="nightly")
    with pytest.raises(Forbidden):
        asking.withdraw(owner, asked)
    asking.withdraw(Actor(user=bob), asked)
    with pytest.raises(Conflict):
        asking.approve(owner, asked)
    assert not Grant.objects.filter(user=bob).exists()


def test_what_is_no_template_is_declined_by_an_administrator(
    root: Actor, bob: User, owner: Actor
) -> None:
    asked = asking.request_access(Actor(user=bob), template="nothing", reason="build")
    assert not AccessRequest.objects.visible_to(owner).exists()
    with pytest.raises(Conflict, match="no template"):
        asking.approve(root, asked)
    asking.decline(root, asked, answer="it is called ubuntu-ci")


def test_requests_are_limited(
    root: Actor, bob: User, charlie: User, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Forbidden):  # no role lets Charlie ask for VMs
        asking.request_access(Actor(user=charlie), template="ubuntu-ci", reason="build")
    monkeypatch.setattr(asking, "MAXIMUM_OPEN", 2)
    for name in ("one", "two"):
        asking.request_access(Actor(user=bob), template=name, reason="build")
    with pytest.raises(Forbidden) as refusal:
        asking.request_access(Actor(user=bob), template="three", reason="build")
    assert refusal.value.code == "limit_reached"


def test_a_template_that_was_revoked_is_not_granted(
    root: Actor, bob: User, template: Template
) -> None:
    asked = asking.request_access(Actor(user=bob), template="ubuntu-ci", reason="build")
    templates.revoke_template(root, template)
    with pytest.raises(Conflict):
        asking.approve(root, asked)
    assert AccessRequest.objects.open().count() == 1


@pytest.mark.stores
def test_of_two_answers_at_once_one_counts(
    transactional_db: None, bob: User, root: Actor, olga: User
) -> None:
    template = make(root)
    grants.grant_template(root, template=template, user=olga, level="manage")
    asked = asking.request_access(Actor(user=bob), template="ubuntu-ci", reason="build")
    barrier, outcomes = Barrier(2), []

    def answer(actor: Actor) -> None:
        barrier.wait()
        try:
            asking.approve(actor, AccessRequest.objects.get(pk=asked.pk))
            outcomes.append("done")
        except Refusal as refusal:
            outcomes.append(refusal.code)
        finally:
            connections.close_all()

    threads = [Thread(target=answer, args=[actor]) for actor in (root, Actor(user=olga))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["answered", "done"]
    assert Grant.objects.filter(user=bob).count() == 1


def test_the_pages_ask_and_answer(
    bob: User, owner: Actor, template: Template, client: Client
) -> None:
    client.force_login(bob)
    form = {"template": "ubuntu-ci", "reason": "nightly build"}
    assert client.post("/access-requests/new/", form).status_code == 303
    assert client.post("/access-requests/new/", form).status_code == 409
    asked = AccessRequest.objects.get()
    assert client.get(f"/access-requests/{asked.pk}/approve/").status_code == 403
    client.force_login(owner.user)
    page = client.get("/access-requests/").content.decode()
    assert "nightly build" in page
    assert "Approve" in page
    url = f"/access-requests/{asked.pk}/approve/"
    assert b"nightly build" in client.get(url).content
    assert client.post(url, {"level": "use", "maximum_vms": "1"}).status_code == 303
    assert Grant.objects.get(user=bob).maximum_vms == 1
    second = asking.request_access(Actor(user=bob), template="ubuntu-ci", reason="more")
    url = f"/access-requests/{second.pk}/decline/"
    assert client.post(url, {"answer": ""}).status_code == 422
    assert client.post(url, {"answer": "enough"}).status_code == 303
    client.force_login(bob)
    assert "enough" in client.get("/access-requests/").content.decode()


def test_the_list_costs_the_same_however_long_it_is(
    root: Actor, owner: Actor, client: Client, django_assert_max_num_queries: Any
) -> None:
    developer = Role.objects.get(group__name="Developer")
    template = make(root)
    grants.grant_template(root, template=template, user=owner.user, level="manage")
    for number in range(12):
        dora = users.create_user(root, username=f"dora-{number}", roles=[developer])
        asking.request_access(Actor(user=dora), template="ubuntu-ci", reason="build")
    client.force_login(owner.user)
    with django_assert_max_num_queries(9):
        page = client.get("/access-requests/").content.decode()
    assert page.count(">Approve<") == 12


def test_a_request_that_nobody_answers_ends_by_itself(
    bob: User, owner: Actor, template: Template, settings: Any
) -> None:
    asker = Actor(user=bob)
    late = asking.request_access(asker, template=template.name, reason="build")
    fresh = asking.request_access(asker, template="another", reason="build")
    days = timedelta(days=settings.ACCESS_REQUEST_DAYS)
    AccessRequest.objects.filter(pk=late.pk).update(created_at=timezone.now() - days)
    assert (asking.expire(), asking.expire()) == (1, 0)
    late.refresh_from_db()
    fresh.refresh_from_db()
    assert (late.state, fresh.state) == ("expired", "open")
    assert late.answered_at
    event = AuditEvent.objects.get(action="access.expired")
    assert (event.subject, event.actor_name) == (late.subject, "orchestrator")
    told = Event.objects.get(kind="access_request.expired")
    assert told.owner_id == bob.pk
    with pytest.raises(Conflict, match="answered already"):
        asking.approve(owner, late)
    assert asking.request_access(asker, template=template.name, reason="again").state == "open"
    assert "expired" in Api(make_token(bob, "read")).get("access-requests/").content.decode()
