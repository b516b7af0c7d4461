"""A token's maximum of VMs at once, and what becomes of VMs when all tokens are revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts import leaks, rotation, tokens, users
from accounts.actors import Actor
from accounts.models import Role, User
from orchestrator.refusals import Forbidden
from tests.faults.test_races import at_once
from vms import ending, grants
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from django.test import Client

    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


def test_creators_at_once_never_pass_the_maximum(pool: Pool, worker: Worker) -> None:
    token, _ = tokens.create_token(pool.bob, name="ci", scopes=["vms"], maximum_vms=3)
    other, _ = tokens.create_token(pool.bob, name="other", scopes=["vms"])
    bob = Actor(pool.bob.user, token)
    results = at_once(*[lambda: pool.ask(Actor(pool.bob.user, token), cpus=64)] * 8)
    refused = [one for one in results if isinstance(one, Exception)]
    assert {getattr(one, "code", one) for one in refused} == {"limit_reached"}
    assert (len(refused), VirtualMachine.objects.filter(token=token).count()) == (5, 3)
    pool.ask(Actor(pool.bob.user, other))  # another token is not concerned, nor is a session
    pool.ask()

    # A rotated token counts what its old secret asked for.
    rotation.rotate_token(pool.bob, token)
    with pytest.raises(Forbidden) as refusal:
        pool.ask(bob)
    assert "3 VMs at once" in refusal.value.message

    # What has ended makes room.
    first = next(one for one in results if isinstance(one, VirtualMachine))
    worker.finish(ending.end(first, pool.bob, reason="test"))
    first.refresh_from_db()
    assert first.state == "cancelled"
    assert pool.ask(bob).token_id == token.pk


def test_the_page_of_a_service_account_shows_what_it_uses_and_runs(
    pool: Pool, client: Client, django_assert_max_num_queries: Any
) -> None:
    assert pool.template
    developer = Role.objects.get(group__name="Developer")
    robot = users.create_user(
        pool.alice, username="robot", roles=[developer], kind=User.Kind.SERVICE
    )
    grants.grant_template(pool.alice, template=pool.template, user=robot, maximum_vms=5)
    token, _ = tokens.create_token(Actor(robot), name="nightly", scopes=["vms"])
    for number in range(3):
        pool.ask(Actor(robot, token), name=f"build-{number}", cpus=64)
    assert pool.alice.user
    client.force_login(pool.alice.user)
    with django_assert_max_num_queries(30):
        page = client.get(f"/service-accounts/{robot.pk}/").content.decode()
    for shown in ("ubuntu-ci", "3 of 5 VMs", "build-0", "build-2", "nightly", "vm.requested"):
        assert shown in page
    row = client.get("/service-accounts/").content.decode().partition("robot")[2]
    assert '<td class="number">3</td>' in row
    refused = client.post(f"/service-accounts/{robot.pk}/delete/")
    assert refused.status_code == 409
    assert "3 of its VMs and tasks exist or wait" in refused.content.decode()


def test_the_drill_for_a_leaked_token_reaches_vms_of_every_token(
    pool: Pool, worker: Worker
) -> None:
    assert pool.bob.user
    made = [tokens.create_token(pool.bob, name=name, scopes=["vms"])[0] for name in ("a", "b")]
    first = pool.ask(Actor(pool.bob.user, made[0]), name="a")
    pool.ask(Actor(pool.bob.user, made[1]), name="b")
    worker.finish(first.create_job)
    waits = pool.ask(Actor(pool.bob.user, made[1]), name="waits", cpus=64)
    own = pool.ask(name="own", cpus=64)
    preview = leaks.preview(pool.alice, pool.bob.user)
    revoked, hits = leaks.revoke_all(pool.alice, pool.bob.user, running_vms="delete")
    assert ({token.pk for token in revoked}, hits) == ({token.pk for token in made}, preview)
    assert {hit.name for hit in hits} == {"a", "b", "waits"}
    worker.until(lambda: not VirtualMachine.objects.open().exclude(pk=own.pk).exists())
    waits.refresh_from_db()
    assert waits.state == "cancelled"
    own.refresh_from_db()
    assert own.state == "pending"  # asked for in the console, by no token
