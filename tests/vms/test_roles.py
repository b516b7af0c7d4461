"""Roles of one's own: at once, and reaching what they take away; VMs of one's roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accounts import custom_roles, users, webhooks
from accounts.actors import Actor
from accounts.models import AuditEvent, Role, User
from events.models import Event
from events.sealing import seal_events
from events.stream import Viewer
from events.webhooks import delivering
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.api.conftest import Api, make_token
from tests.vms.conftest import reread
from vms import ending, grants
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from django.test import Client

    from tests.vms.conftest import Pool

pytestmark = pytest.mark.stores


@pytest.fixture
def builder(pool: Pool) -> Role:
    """A role that may ask for VMs, and has the template. Bob has it, and no other."""
    role = custom_roles.create_role(pool.alice, name="Builder", permissions=["vms.use"])
    users.set_roles(pool.alice, pool.bob.user, [role])  # type: ignore[arg-type]
    return role


def test_a_permission_taken_from_a_role_acts_at_once_and_reaches_vms(
    pool: Pool, builder: Role
) -> None:
    waits = pool.ask(name="waits", cpus=64)
    assert [hit.name for hit in custom_roles.preview_losing(builder, deleting=False)] == ["waits"]
    hits = custom_roles.change_role(pool.alice, builder, permissions=["hosts.view"])
    assert [hit.name for hit in hits] == ["waits"]
    assert reread(waits).state == "cancelled"
    fresh = Actor(user=pool.bob.user)
    assert fresh.permissions == {"hosts.view"}
    with pytest.raises(Forbidden):
        pool.ask(fresh)
    event = AuditEvent.objects.get(action="role.changed")
    assert event.data["before"]["permissions"] == ["vms.use"]
    assert event.data["after"]["permissions"] == ["hosts.view"]


def test_who_may_ask_by_another_role_keeps_what_they_have(pool: Pool, builder: Role) -> None:
    developer = Role.objects.get(group__name="Developer")
    users.set_roles(pool.alice, pool.bob.user, [builder, developer])  # type: ignore[arg-type]
    waits = pool.ask(name="waits", cpus=64)
    assert custom_roles.change_role(pool.alice, builder, permissions=[]) == []
    assert reread(waits).state == "pending"
    users.set_roles(pool.alice, pool.bob.user, [builder])  # type: ignore[arg-type]
    assert reread(waits).state == "cancelled"


def test_deleting_a_role_reaches_what_rests_on_its_grants(
    pool: Pool, builder: Role, charlie: User
) -> None:
    assert pool.template
    developer = Role.objects.get(group__name="Developer")
    users.set_roles(pool.alice, charlie, [builder, developer])
    grants.grant_template(pool.alice, template=pool.template, role=builder)
    by_role = pool.ask(Actor(user=charlie), name="by-role", cpus=64)
    direct = pool.ask(name="direct", cpus=64)
    custom_roles.delete_role(pool.alice, builder)
    assert (reread(by_role).state, reread(direct).state) == ("cancelled", "cancelled")
    assert not Role.objects.filter(pk=builder.pk).exists()


def test_shipped_roles_stay_and_bad_ones_are_refused(pool: Pool, builder: Role) -> None:
    shipped = Role.objects.get(group__name="Developer")
    with pytest.raises(Conflict, match="Shipped"):
        custom_roles.change_role(pool.alice, shipped, permissions=[])
    with pytest.raises(Conflict, match="Shipped"):
        custom_roles.delete_role(pool.alice, shipped)
    with pytest.raises(Conflict, match="exists"):
        custom_roles.create_role(pool.alice, name="builder")
    with pytest.raises(Invalid):
        custom_roles.create_role(pool.alice, name="x", permissions=["vms.everything"])
    with pytest.raises(Forbidden):
        custom_roles.create_role(pool.bob, name="x")


def test_vms_of_ones_roles_are_seen_and_managed_with_the_permissions(
    pool: Pool, builder: Role, charlie: User
) -> None:
    ours = pool.ask(name="ours", cpus=64)
    assert ours.share == builder
    theirs = pool.ask(pool.alice, name="theirs", cpus=64)
    lead = custom_roles.create_role(pool.alice, name="Lead", permissions=["vms.view_roles"])
    users.set_roles(pool.alice, charlie, [builder, lead])
    actor = Actor(user=charlie)
    assert list(VirtualMachine.objects.visible_to(actor)) == [ours]
    with pytest.raises(Forbidden):
        ending.request_delete(actor, ours)
    custom_roles.change_role(
        pool.alice, lead, permissions=["vms.view_roles", "vms.manage_roles", "vms.use"]
    )
    with pytest.raises(Forbidden):
        ending.request_delete(Actor(user=charlie), theirs)
    ending.request_delete(Actor(user=charlie), ours)
    assert reread(ours).state == "cancelled"
    users.set_roles(pool.alice, charlie, [lead])
    assert not VirtualMachine.objects.visible_to(Actor(user=charlie)).exists()


def test_events_of_what_ones_roles_have_reach_feed_stream_and_webhooks(
    pool: Pool, builder: Role, charlie: User
) -> None:
    """And nobody else; and no longer than the role, or its permission, is had."""
    rights = ["vms.view_roles", "webhooks.use"]
    lead = custom_roles.create_role(pool.alice, name="Lead", permissions=rights)
    users.set_roles(pool.alice, charlie, [builder, lead])
    actor = Actor(user=charlie)
    webhook, _ = webhooks.create_webhook(actor, name="w", url="http://10.0.0.1/", kinds=["vm"])
    ours = pool.ask(name="ours", cpus=64)
    theirs = pool.ask(pool.alice, name="theirs", cpus=64)
    seal_events()
    last = Event.objects.get(subject=ours.subject)

    def seen(kind: str = "vm.changed") -> set[str]:
        api = Api(make_token(charlie, "read"))
        found = api.get(f"events/?kind={kind}").json()["results"]
        viewer = Viewer(charlie.pk, webhooks.rights([charlie.pk]).get(charlie.pk, frozenset()))
        by_feed = {event["subject"] for event in found}
        sealed = Event.objects.sealed().filter(kind=kind)
        assert by_feed == {one.subject for one in sealed if viewer.may_see(one)}
        return by_feed

    assert seen() == {ours.subject}
    delivering.fan_out(webhooks.rights)
    assert {one.subject for one in webhook.deliveries.all()} == {ours.subject}
    others = Actor(user=users.create_user(pool.alice, username="lonely", roles=[lead]))
    assert not last.may_be_seen(others.user_id, others.audience)  # type: ignore[arg-type]
    users.set_roles(pool.alice, charlie, [lead])
    assert seen() == set()
    assert theirs.subject not in seen()
    delivering.deliver(webhooks.rights)
    delivery = webhook.deliveries.get()
    assert (delivery.state, delivery.problem) == ("failed", delivering.NOT_ALLOWED)


def test_what_a_change_would_hit_is_what_it_hits(pool: Pool, builder: Role, charlie: User) -> None:
    """Of a role: deleted, or with other permissions. Of an account: with other roles, or none."""
    assert pool.template
    developer = Role.objects.get(group__name="Developer")
    users.set_roles(pool.alice, charlie, [builder, developer])
    grants.grant_template(pool.alice, template=pool.template, role=builder)
    pool.ask(Actor(user=charlie), name="by-role", cpus=64)
    pool.ask(name="direct", cpus=64)
    api = Api(make_token(pool.alice.user))  # type: ignore[arg-type]

    def names(path: str) -> list[str]:
        body = api.get(path).json()
        assert body["choices"] == ["keep", "stop", "delete"]
        return sorted(hit["name"] for hit in body["hits"])

    role, people = f"roles/{builder.pk}/impact/", f"users/{charlie.pk}/impact/"
    assert names(role) == ["by-role", "direct"]
    assert names(f"{role}?permissions=hosts.view") == ["direct"], "charlie may ask by another role"
    assert names(f"{role}?permissions=vms.use,hosts.view") == []
    assert names(people) == ["by-role"]
    assert names(f"{people}?roles=Developer") == ["by-role"], "it rests on the role's grant"
    assert names(f"{people}?roles=Builder") == []
    assert names(f"{people}?roles=Builder,{developer.pk}") == []
    assert names(f"users/{pool.bob.user.pk}/impact/?roles=") == ["direct"]  # type: ignore[union-attr]
    assert api.get(f"{people}?roles=Nobody").status_code == 400
    for who, status in ((pool.bob.user, 403), (charlie, 403)):
        assert Api(make_token(who)).get(role).status_code == status  # type: ignore[arg-type]
    assert Api(make_token(charlie)).get(f"users/{pool.bob.user.pk}/impact/").status_code == 404  # type: ignore[union-attr]

    users.set_roles(pool.alice, charlie, [developer])
    hit = AuditEvent.objects.filter(action="user.roles_changed").latest("pk").data["hit"]
    assert len(hit) == 1
    assert [one.name for one in custom_roles.delete_role(pool.alice, builder)] == ["direct"]


def test_roles_by_api_and_pages(pool: Pool, client: Client) -> None:
    api = Api(make_token(pool.alice.user, "admin"))  # type: ignore[arg-type]
    made = api.post("roles/", {"name": "Tester", "permissions": ["vms.use"]})
    assert made.status_code == 201, made.content
    url = f"roles/{made.json()['id']}/"
    changed = api.patch(url, {"permissions": ["hosts.view"], "name": "Viewer"})
    assert (changed.json()["name"], changed.json()["permissions"]) == ("Viewer", ["hosts.view"])
    assert api.delete(f"{url}?running_vms=burn").status_code == 400
    assert api.delete(url).status_code == 204
    client.force_login(pool.alice.user)
    form = {"name": "Tester", "permissions": ["vms.use"]}
    assert client.post("/roles/new/", form).status_code == 303
    role = Role.objects.get(group__name="Tester")
    change = {"name": "Tester", "permissions": [], "running_vms": "keep"}
    assert client.post(f"/roles/{role.pk}/change/", change).status_code == 303
    assert Role.objects.get(pk=role.pk).permissions == []
    assert "Tester" in client.get("/roles/").content.decode()
    assert client.post(f"/roles/{role.pk}/delete/", {"running_vms": "keep"}).status_code == 303
    assert not Role.objects.filter(pk=role.pk).exists()
