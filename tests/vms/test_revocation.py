"""Revoking reaches queued work and running VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts import tokens, users
from accounts.actors import Actor
from catalog import images
from events.models import Event
from jobs import queueing
from orchestrator.db.clock import from_now
from orchestrator.refusals import Forbidden, NotFound
from vms import grants, revocations, templates, verbs
from vms.models import Grant, VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@pytest.fixture
def three(pool: Pool, worker: Worker) -> list[VirtualMachine]:
    """Two running VMs and one that waits."""
    vms = [pool.ask(name="one"), pool.ask(name="two"), pool.ask(name="waits", cpus=64)]
    for vm in vms[:2]:
        worker.finish(vm.create_job)
    return vms


def states(vms: list[VirtualMachine]) -> list[str]:
    return [VirtualMachine.objects.get(pk=vm.pk).state for vm in vms]


def test_preview_lists_exactly_what_revoking_hits(
    pool: Pool, worker: Worker, three: list[VirtualMachine]
) -> None:
    assert pool.grant
    preview = grants.impact(pool.alice, pool.grant)
    assert [(hit.name, hit.queued) for hit in preview] == [
        ("one", False),
        ("two", False),
        ("waits", True),
    ]
    job = grants.revoke_grant(pool.alice, pool.grant, running_vms="delete")
    assert job.result["hit"] == [str(hit) for hit in preview]
    assert states(three) == ["deleting", "deleting", "cancelled"]
    worker.until(lambda: states(three)[:2] == ["deleted", "deleted"])
    assert pool.simulation.all_vm_names() == []
    with pytest.raises(Forbidden) as refusal:
        pool.ask()
    assert refusal.value.code == "grant_revoked"


def test_preview_names_the_tokens_that_lose_the_template(pool: Pool) -> None:
    template, grant = pool.template, pool.grant
    assert template
    assert grant
    tokens.create_token(pool.bob, name="any", scopes=["vms"])
    tokens.create_token(pool.bob, name="this", scopes=["admin"], templates=[template.pk])
    tokens.create_token(pool.bob, name="other", scopes=["vms"], templates=[pool.hosts[0].pk])
    tokens.create_token(pool.bob, name="reads", scopes=["read"])
    ended, _clear = tokens.create_token(pool.bob, name="ended", scopes=["vms"])
    tokens.revoke_token(pool.bob, ended)
    names = [token.name for token in grants.tokens_losing(pool.alice, grant)]
    assert names == ["any", "this"]
    second = grants.grant_template(pool.alice, template=template, user=grant.user)
    assert grants.tokens_losing(pool.alice, grant) == []
    grants.revoke_grant(pool.alice, second)
    assert len(grants.tokens_losing(pool.alice, grant)) == 2


def test_keep_leaves_running_vms_and_cancels_what_waits(
    pool: Pool, three: list[VirtualMachine]
) -> None:
    assert pool.grant
    grants.revoke_grant(pool.alice, pool.grant, running_vms="keep")
    assert states(three) == ["running", "running", "cancelled"]


def test_a_long_queue_is_cancelled_at_once_and_gives_its_places_back(
    pool: Pool,
    worker: Worker,
    django_assert_max_num_queries: Callable[..., Any],
) -> None:
    limited = grants.grant_template(
        pool.alice,
        template=pool.template,
        user=pool.bob.user,
        maximum_vms=30,  # type: ignore[arg-type]
    )
    assert pool.grant
    grants.revoke_grant(pool.alice, pool.grant)
    waiting = [pool.ask(cpus=64) for _ in range(30)]
    woken = waiting[7].create_job
    assert woken
    assert queueing.proceed(woken, "give_up")  # a worker may have it just now
    with django_assert_max_num_queries(45):  # and not fifteen for each
        grants.revoke_grant(pool.alice, limited)
    assert states(waiting) == ["cancelled"] * 30
    limited.refresh_from_db()
    assert limited.vms == 0
    jobs = [vm.create_job for vm in waiting]
    for job in jobs:
        assert job
        job.refresh_from_db()
    assert [job.state for job in jobs if job != woken] == ["cancelled"] * 29  # type: ignore[union-attr]
    worker.finish(woken)
    assert woken.state == "cancelled"
    told = Event.objects.filter(kind="vm.changed", data__state="cancelled")
    assert told.count() == 30


def test_stop_stops_them(pool: Pool, worker: Worker, three: list[VirtualMachine]) -> None:
    assert pool.grant
    grants.revoke_grant(pool.alice, pool.grant, running_vms="stop")
    worker.until(lambda: states(three) == ["stopped", "stopped", "cancelled"])


def test_stop_stops_one_that_is_just_starting_and_deletes_nothing(
    pool: Pool, worker: Worker
) -> None:
    vm = pool.ask()
    worker.finish(vm.create_job)
    worker.finish(verbs.stop(pool.bob, VirtualMachine.objects.get(pk=vm.pk), force=True))
    verbs.start(pool.bob, VirtualMachine.objects.get(pk=vm.pk))
    assert states([vm]) == ["starting"]
    assert pool.grant
    grants.revoke_grant(pool.alice, pool.grant, running_vms="stop")
    assert states([vm]) == ["stopping"]
    worker.until(lambda: states([vm]) == ["stopped"])
    assert len(pool.simulation.all_vm_names()) == 1


def test_a_token_revoked_with_delete_reaches_only_its_vms(pool: Pool, worker: Worker) -> None:
    token, _clear = tokens.create_token(pool.bob, name="ci", scopes=["vms"])
    by_token = pool.ask(Actor(user=pool.bob.user, token=token))
    by_hand = pool.ask()
    for vm in (by_token, by_hand):
        worker.finish(vm.create_job)
    tokens.revoke_token(pool.bob, token, running_vms="delete")
    assert states([by_token, by_hand]) == ["deleting", "running"]
    with pytest.raises(Forbidden):
        pool.ask(Actor(user=pool.bob.user, token=token))


def test_a_token_narrowed_to_templates_uses_no_other(pool: Pool) -> None:
    token, _clear = tokens.create_token(
        pool.bob, name="ci", scopes=["vms"], templates=[pool.hosts[0].pk]
    )
    with pytest.raises(Forbidden) as refusal:
        pool.ask(Actor(user=pool.bob.user, token=token))
    assert refusal.value.code == "token_scope"


def test_a_role_taken_away_reaches_what_its_grant_allowed(pool: Pool, worker: Worker) -> None:
    from accounts.models import Role

    developer = Role.objects.get(group__name="Developer")
    assert pool.grant
    grants.revoke_grant(pool.alice, pool.grant)
    grants.grant_template(pool.alice, template=pool.template, role=developer)  # type: ignore[arg-type]
    vm = pool.ask()
    worker.finish(vm.create_job)
    users.set_roles(pool.alice, pool.bob.user, [], running_vms="delete")  # type: ignore[arg-type]
    assert states([vm]) == ["deleting"]


def test_deactivating_a_user_and_revoking_template_or_image(pool: Pool, worker: Worker) -> None:
    vm, waits = pool.ask(), pool.ask(cpus=64)
    worker.finish(vm.create_job)
    assert pool.image
    images.revoke(pool.alice, pool.image, running_vms="stop")
    assert states([vm, waits]) == ["stopping", "cancelled"]
    with pytest.raises(Forbidden) as refusal:
        pool.ask()
    assert refusal.value.code == "image_revoked"
    templates.revoke_template(pool.alice, pool.template, running_vms="keep")  # type: ignore[arg-type]
    users.set_active(pool.alice, pool.bob.user, False, running_vms="delete")  # type: ignore[arg-type]
    worker.until(lambda: states([vm]) == ["deleted"])


def test_an_expired_grant_cancels_what_waits_and_keeps_what_runs(
    pool: Pool, three: list[VirtualMachine]
) -> None:
    Grant.objects.update(expires_at=from_now(-1))
    assert revocations.end_expired() >= 1
    assert states(three) == ["running", "running", "cancelled"]
    with pytest.raises(Forbidden) as refusal:
        pool.ask()
    assert refusal.value.code == "grant_expired"


def test_a_template_never_granted_does_not_exist(pool: Pool, charlie: object) -> None:
    from accounts.models import Role, User

    carl = User.objects.create_user(username="carl")
    carl.groups.add(Role.objects.get(group__name="Developer").group)
    with pytest.raises(NotFound):
        pool.ask(Actor(user=carl))
    assert not Event.objects.filter(owner_id=carl.pk, kind="vm.changed").exists()
