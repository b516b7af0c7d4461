"""Who can use what, and why: from the template's side, from the account's, and as a matrix."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts import tokens, users
from accounts.actors import Actor
from accounts.models import AuditEvent, Role, User
from orchestrator.refusals import Forbidden, NotFound
from tests.api.conftest import Api, make_token
from vms import access, grants, matrix, templates
from vms.models import Grant, Template

if TYPE_CHECKING:
    from django.test import Client


@pytest.fixture
def root(alice: User) -> Actor:
    return Actor(user=alice)


@pytest.fixture
def developer() -> Role:
    return Role.objects.get(group__name="Developer")


def make(actor: Actor, name: str = "ubuntu-ci", **more: Any) -> Template:
    return templates.create_template(
        actor,
        name=name,
        clone_of="golden",
        cpus=1,
        memory_mib=512,
        disk_gib=5,
        default_lease_seconds=60,
        maximum_lease_seconds=60,
        **more,
    )


@pytest.fixture
def template(root: Actor) -> Template:
    return make(root)


def told(ways: list[matrix.Way]) -> list[tuple[str, str, bool, str]]:
    return [(way.user.username, str(way.role or "direct"), way.taken, way.why_not) for way in ways]


def test_each_way_is_told_with_its_reason_and_the_one_that_is_taken(
    root: Actor, bob: User, template: Template, developer: Role
) -> None:
    soon = timezone.now() + timedelta(hours=1)
    dora = users.create_user(root, username="dora", roles=[developer])
    grants.grant_template(root, template=template, role=developer, maximum_vms=3)
    direct = grants.grant_template(root, template=template, user=bob, expires_at=soon)
    assert told(matrix.who_can_use(root, template)) == [
        ("alice", "direct", True, ""),
        ("bob", "direct", True, ""),
        ("bob", "Developer", False, ""),
        ("dora", "Developer", True, ""),
    ]
    # What is told to be taken is what a request takes.
    taken = next(way for way in matrix.what_can_use(root, bob) if way.taken)
    grant, _images = access_of(Actor(user=bob), template)
    assert taken.grant == grant == direct
    grants.revoke_grant(root, direct)
    assert told(matrix.what_can_use(root, bob)) == [("bob", "Developer", True, "")]
    users.set_roles(root, dora, [])
    assert told(matrix.what_can_use(root, dora)) == []


def access_of(actor: Actor, template: Template) -> tuple[Grant, Any]:
    with transaction.atomic():
        actor.take()
        grant, images = access.take_template(actor, template)
        assert grant
        return grant, images


def test_what_keeps_a_grant_from_being_of_use_is_told(
    root: Actor, bob: User, charlie: User, template: Template
) -> None:
    full = grants.grant_template(root, template=template, user=bob, maximum_vms=1)
    Grant.objects.filter(pk=full.pk).update(vms=1)
    grants.grant_template(root, template=template, user=charlie)
    assert [way.why_not for way in matrix.who_can_use(root, template)] == [
        "",
        "All 1 VMs that it allows are in use.",
        "No role of the account allows it to ask for VMs.",
    ]
    users.set_active(root, bob, False)
    assert "deactivated" in matrix.what_can_use(root, bob)[0].why_not
    templates.revoke_template(root, template)
    assert not any(way.usable or way.taken for way in matrix.who_can_use(root, template))


def test_an_expired_grant_is_no_way(root: Actor, bob: User, template: Template) -> None:
    grant = grants.grant_template(
        root, template=template, user=bob, expires_at=timezone.now() + timedelta(hours=1)
    )
    assert matrix.what_can_use(root, bob)
    Grant.objects.filter(pk=grant.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert matrix.what_can_use(root, bob) == []


def test_only_those_who_may_know_are_told(
    root: Actor, bob: User, charlie: User, template: Template
) -> None:
    grant = grants.grant_template(root, template=template, user=bob)
    with pytest.raises(Forbidden):
        matrix.who_can_use(Actor(user=bob), template)
    with pytest.raises(NotFound):
        matrix.who_can_use(Actor(user=charlie), template)
    with pytest.raises(NotFound):
        matrix.what_can_use(Actor(user=charlie), bob)
    with pytest.raises(Forbidden):
        matrix.matrix(Actor(user=bob))
    assert [way.grant for way in matrix.what_can_use(Actor(user=bob), bob)] == [grant]
    grants.grant_template(root, template=template, user=bob, level="manage")
    assert len(matrix.who_can_use(Actor(user=bob), template)) == 3


def test_the_matrix_has_roles_and_accounts_in_a_fixed_number_of_queries(
    root: Actor,
    bob: User,
    developer: Role,
    template: Template,
    django_assert_max_num_queries: Any,
) -> None:
    grants.grant_template(root, template=template, role=developer)
    for number in range(12):
        other = make(root, f"other-{number}")
        grants.grant_template(root, template=other, user=bob)
    with django_assert_max_num_queries(11):
        seen = matrix.matrix(root)
    assert len(seen.templates) == 13
    assert [(str(row.subject), row.is_role) for row in seen.rows] == [
        ("Developer", True),
        ("alice", False),
        ("bob", False),
    ]
    bobs = seen.rows[2]
    place = seen.templates.index(template)
    assert [way.role for way in bobs.cells[place]] == [developer]  # type: ignore[union-attr]
    assert all(cell for cell in bobs.cells)
    narrow = matrix.matrix(root, subject="BOB", template="other-1")
    assert [str(row.subject) for row in narrow.rows] == ["bob"]
    assert [one.name for one in narrow.templates] == ["other-1", "other-10", "other-11"]


def test_the_api_tells_both_ways(root: Actor, bob: User, template: Template) -> None:
    grant = grants.grant_template(root, template=template, user=bob, maximum_vms=2)
    api = Api(make_token(root.user, "admin"))
    access = api.get(f"templates/{template.pk}/access/").json()["access"]
    assert [one["user"]["name"] for one in access] == ["alice", "bob"]
    mine = Api(make_token(bob, "read")).get(f"users/{bob.pk}/access/").json()["access"]
    assert mine == [access[1]]
    assert mine[0]["grant"] == str(grant.pk)
    assert (mine[0]["maximum_vms"], mine[0]["role"], mine[0]["taken"]) == (2, None, True)
    rights = api.get(f"users/{bob.pk}/rights/").json()["rights"]
    assert [right["permission"] for right in rights] == ["vms.use", "webhooks.use"]
    assert rights[0]["roles"] == ["Developer"]


def test_the_pages_show_reasons(
    root: Actor, bob: User, template: Template, client: Client, developer: Role
) -> None:
    grants.grant_template(root, template=template, role=developer)
    client.force_login(root.user)
    page = client.get("/access/").content.decode()
    assert "role Developer" in page
    assert "by role Developer" in page
    assert "by role Developer" in client.get(f"/templates/{template.pk}/").content.decode()
    page = client.get(f"/users/{bob.pk}/access/").content.decode()
    assert template.name in page
    assert "vms.use" in page
    client.force_login(bob)
    assert client.get("/access/").status_code == 403
    assert client.get(f"/users/{root.user_id}/access/").status_code == 404
    assert 'id="who"' not in client.get(f"/templates/{template.pk}/").content.decode()


def test_the_api_tells_it_from_either_side_page_by_page_and_as_a_sheet(
    root: Actor, bob: User, charlie: User, template: Template, developer: Role, client: Client
) -> None:
    soon = timezone.now() + timedelta(hours=1)
    other = make(root, "windows-ci")
    grants.grant_template(root, template=template, role=developer)
    grants.grant_template(root, template=other, user=bob, expires_at=soon)
    grants.grant_template(root, template=other, user=charlie, level="manage")
    admin = Api(make_token(root.user))  # type: ignore[arg-type]

    def pairs(api: Api, query: str = "") -> set[tuple[str, str, str]]:
        found, url = [], f"access/?page_size=2{query}"
        while url:
            page = api.get(url).json()
            assert len(page["results"]) <= 2
            found += page["results"]
            url = page["next"] and page["next"].partition("/api/v2/")[2]
        told = [
            (way["user"]["name"], way["template"]["name"], (way["role"] or {}).get("name", ""))
            for way in found
        ]
        assert len(set(told)) == len(told), "nothing comes twice"
        return set(told)

    everything = {
        ("alice", "ubuntu-ci", ""),
        ("alice", "windows-ci", ""),
        ("bob", "ubuntu-ci", "Developer"),
        ("bob", "windows-ci", ""),
        ("charlie", "windows-ci", ""),
    }
    assert pairs(admin) == everything
    assert pairs(admin, "&subject=bob") == {pair for pair in everything if pair[0] == "bob"}
    assert pairs(admin, f"&subject={bob.pk}&template=UBUNTU-CI") == {
        ("bob", "ubuntu-ci", "Developer")
    }
    assert pairs(admin, "&subject=Developer") == {("bob", "ubuntu-ci", "Developer")}
    assert pairs(admin, f"&template={other.pk}") == {
        pair for pair in everything if pair[1] == "windows-ci"
    }
    # Without the right to see all: one's own, and those of a template that one manages.
    assert pairs(Api(make_token(bob))) == {pair for pair in everything if pair[0] == "bob"}
    assert pairs(Api(make_token(charlie))) == {
        pair for pair in everything if pair[1] == "windows-ci"
    }
    sheet = admin.get("access/export/?template=windows-ci")
    lines = sheet.content.decode().splitlines()
    assert (len(lines), sheet["Content-Type"]) == (4, "text/csv; charset=utf-8")
    assert f"bob,windows-ci,direct,use,{soon.isoformat()}" in sheet.content.decode()
    client.force_login(root.user)
    lines = client.get("/access/export/?subject=developer").content.decode().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [["bob", "ubuntu-ci", "role Developer"]]
    assert AuditEvent.objects.filter(action="access.exported").count() == 2
    client.force_login(bob)
    assert client.get("/access/export/").status_code == 403


def test_what_a_token_and_a_service_account_can_do(
    root: Actor, bob: User, template: Template, developer: Role, client: Client
) -> None:
    other = make(root, "windows-ci")
    for one in (template, other):
        grants.grant_template(root, template=one, role=developer)
    robot = users.create_user(root, username="robot", roles=[developer], kind=User.Kind.SERVICE)
    token, text = tokens.create_token(
        root, name="narrow", scopes=["vms"], user=robot, templates=[template.pk]
    )
    ways = matrix.what_can_use(root, robot, token)
    assert told(ways) == [
        ("robot", "Developer", True, ""),
        ("robot", "Developer", False, "The token is narrowed to others."),
    ]
    api = Api(text)
    rights = api.get(f"tokens/{token.pk}/rights/").json()
    assert rights["live"]
    assert [right["permission"] for right in rights["rights"]] == ["vms.use"]  # webhooks: no scope
    assert set(api.get("me/").json()["permissions"]) == {"vms.use"}
    client.force_login(root.user)
    page = client.get(f"/tokens/{token.pk}/access/").content.decode()
    assert "The token is narrowed to others." in page
    assert "The token does not have the scope admin." in page
    assert "ubuntu-ci" in client.get(f"/users/{robot.pk}/access/").content.decode()
    tokens.revoke_token(root, token)
    page = client.get(f"/tokens/{token.pk}/access/").content.decode()
    assert "it can do none of this" in page
    client.force_login(bob)
    assert client.get(f"/tokens/{token.pk}/access/").status_code == 404
