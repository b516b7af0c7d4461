"""Changing what a token is narrowed to: at once, with what it has queued, and with no gap."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from accounts import custom_roles, token_changes, tokens
from accounts.actors import Actor
from accounts.models import ApiToken, AuditEvent, User
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound, Refusal
from tests.faults.test_races import at_once
from tests.vms.conftest import reread
from vms import grants, templates, verbs
from vms.models import Template, VirtualMachine

if TYPE_CHECKING:
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@pytest.fixture
def other(pool: Pool) -> Template:
    """Another template that Bob may use."""
    assert pool.image
    made = templates.create_template(
        pool.alice,
        name="other",
        images=[pool.image],
        cpus=1,
        memory_mib=1024,
        disk_gib=16,
        default_lease_seconds=3600,
        maximum_lease_seconds=7200,
    )
    grants.grant_template(pool.alice, template=made, user=User.objects.get(username="bob"))
    return made


def token_of(pool: Pool, *scopes: str, **options: Any) -> ApiToken:
    return tokens.create_token(pool.bob, name="ci", scopes=scopes or ["vms"], **options)[0]


def by(pool: Pool, token: ApiToken) -> Actor:
    """Return the actor of a new request with the token."""
    return Actor(pool.bob.user, ApiToken.objects.get(pk=token.pk))


def states(*vms: VirtualMachine) -> list[str]:
    return [reread(vm).state for vm in vms]


def test_templates_taken_from_a_token_end_what_it_queued_of_them_alone(
    pool: Pool, worker: Worker, other: Template
) -> None:
    token = token_of(pool)
    runs, kept = pool.ask(by(pool, token)), pool.ask(by(pool, token), template=other)
    for vm in (runs, kept):
        worker.finish(vm.create_job)  # type: ignore[arg-type]
    waits = pool.ask(by(pool, token), cpus=64)
    waits_too = pool.ask(by(pool, token), template=other, cpus=64)
    by_hand = pool.ask(cpus=64)
    started_before = by(pool, token)  # a request that read the token before the change

    seen = token_changes.preview(token, templates=[other.pk])
    hits = token_changes.change_token(pool.bob, token, templates=[other.pk], running_vms="stop")
    assert [hit.name for hit in hits] == [hit.name for hit in seen] == [runs.name, waits.name]
    assert states(runs, waits) == ["stopping", "cancelled"]
    assert states(kept, waits_too, by_hand) == ["running", "pending", "pending"]
    assert "narrowed by bob" in reread(waits).reason
    for actor, code in ((by(pool, token), "token_scope"), (started_before, "token_changed")):
        with pytest.raises(Refusal) as refusal:
            pool.ask(actor)
        assert refusal.value.code == code
    # What ran stays away: its token may not use its template any more.
    worker.until(lambda: states(runs) == ["stopped"])
    with pytest.raises(Forbidden, match="may not use its template any more"):
        verbs.start(pool.bob, reread(runs))

    event = AuditEvent.objects.get(action="token.changed")
    assert event.data == {
        "before": {"templates": None},
        "after": {"templates": [str(other.pk)]},
        "running_vms": "stop",
        "hit": [f"vm:{runs.pk}", f"vm:{waits.pk}"],
    }
    # Wider again: nothing is hit, and it works.
    assert token_changes.change_token(pool.bob, token, templates=None) == []
    verbs.start(pool.bob, reread(runs))
    pool.ask(by(pool, token), cpus=64)


def test_the_scope_of_vms_and_a_lower_maximum(pool: Pool, worker: Worker) -> None:
    token = token_of(pool)
    runs = pool.ask(by(pool, token))
    worker.finish(runs.create_job)  # type: ignore[arg-type]
    waiting = [pool.ask(by(pool, token), cpus=64) for _ in range(3)]
    token_changes.change_token(pool.bob, token, maximum_vms=2, running_vms="delete")
    assert states(runs, *waiting) == ["running", "pending", "cancelled", "cancelled"]
    with pytest.raises(Forbidden) as refusal:
        pool.ask(by(pool, token))
    assert refusal.value.code == "limit_reached"
    # What changes nothing about VMs hits none.
    soon = timezone.now() + timedelta(days=1)
    assert token_changes.change_token(pool.bob, token, expires_at=soon, networks=["::/0"]) == []
    assert token_changes.change_token(pool.bob, token, expires_at=soon) == []
    token_changes.change_token(pool.bob, token, scopes=["read"], running_vms="delete")
    assert states(runs, waiting[0]) == ["deleting", "cancelled"]
    assert AuditEvent.objects.filter(action="token.changed").count() == 3


def test_creators_against_a_narrowing_each_vm_is_refused_or_hit(
    pool: Pool, other: Template
) -> None:
    for limits in ({"templates": [other.pk]}, {"scopes": ["read"]}, {"maximum_vms": 1}) * 4:
        token = token_of(pool)
        actor = by(pool, token)

        def create(actor: Actor = actor) -> VirtualMachine:
            return pool.ask(Actor(actor.user, actor.token), cpus=64)

        def narrow(token: ApiToken = token, limits: Any = limits) -> list[Any]:
            return token_changes.change_token(pool.bob, token, **limits)

        *created, hits = at_once(*[create] * 6, narrow)
        assert not isinstance(hits, Exception), hits
        reached = {hit.id for hit in hits}
        kept = []
        for one in created:
            if isinstance(one, Exception):
                assert isinstance(one, Refusal), one
                assert one.code == "token_changed"
            elif one.pk in reached:
                assert states(one) == ["cancelled"]
            else:
                kept.append(one)
        assert len(kept) <= (1 if "maximum_vms" in limits else 0)


def test_what_a_change_may_not_do(pool: Pool, other: Template) -> None:
    token = token_of(pool)
    stranger = Actor(User.objects.create_user("charlie"))
    with pytest.raises(NotFound):
        token_changes.change_token(stranger, token, scopes=["read"])
    with pytest.raises(Forbidden):  # nor by a token without the scope for accounts
        token_changes.change_token(by(pool, token_of(pool)), token, scopes=["read"])
    own = token_of(pool, "admin")
    with pytest.raises(Forbidden, match="itself"):
        token_changes.change_token(by(pool, own), own, scopes=["read"])
    # A narrowed token may narrow another, and widen none beyond itself.
    narrow = by(pool, token_of(pool, "admin", templates=[other.pk]))
    token_changes.change_token(narrow, token, maximum_vms=3)
    token_changes.change_token(narrow, token, templates=[other.pk, pool.template.pk])  # type: ignore[union-attr]
    with pytest.raises(Forbidden, match="cannot hand out a wider one"):
        token_changes.change_token(narrow, token, templates=None)
    token_changes.change_token(narrow, token, templates=[other.pk])
    # Who may do less than an account may narrow its tokens, and not widen them.
    of_alice = tokens.create_token(pool.alice, name="root", scopes=["vms"])[0]
    manager = User.objects.create_user("manager")
    role = custom_roles.create_role(
        pool.alice, name="Managers", permissions=["accounts.view", "accounts.manage"]
    )
    manager.groups.add(role.group)
    token_changes.change_token(Actor(manager), of_alice, maximum_vms=3)
    with pytest.raises(Forbidden, match="rights that you do not have"):
        token_changes.change_token(Actor(manager), of_alice, maximum_vms=None)
    for wrong in (
        {"scopes": []},
        {"scopes": ["x"]},
        {"networks": ["10.0.0.1/8"]},
        {"maximum_vms": 0},
    ):
        with pytest.raises(Invalid):
            token_changes.change_token(pool.bob, token, **wrong)
    tokens.revoke_token(pool.bob, token)
    with pytest.raises(Conflict):
        token_changes.change_token(pool.bob, token, scopes=["read"])
