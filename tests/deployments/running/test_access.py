"""Who may act in a restricted environment, and what a right that is taken away does to tasks."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.utils import timezone

from accounts import revocation, tokens, users
from accounts.actors import Actor
from accounts.models import AuditEvent, Role
from accounts.revocation import Revoked
from deployments import access, dictionaries, environments, granting
from deployments.models import EnvironmentAccess, Step, Task
from deployments.running import admitting, control, planwork, rights, scheduling
from events.models import Event
from orchestrator.refusals import Forbidden, Invalid, NotFound, Refusal
from tests.deployments.running.conftest import L, P, S, prepared, told
from tests.support.product import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from accounts.models import User
    from jobs.models import Job
    from tests.deployments.running.conftest import Engine

pytestmark = pytest.mark.stores


@pytest.fixture
def ines(db: None, olga: User) -> User:
    """Another Operator."""
    from accounts.models import User

    user = User.objects.create_user(username="ines")
    user.groups.set(olga.groups.all())
    return user


def restricted(engine: Engine, **levels: User | Role) -> dict[str, EnvironmentAccess]:
    """Restrict the environment, with one on its list for each level that is given."""
    granting.restrict(engine.alice, engine.environment)
    engine.environment.refresh_from_db()
    return {
        level: granting.give(
            engine.alice,
            environment=engine.environment,
            user=None if isinstance(who, Role) else who,
            role=who if isinstance(who, Role) else None,
            level=level,
        )
        for level, who in levels.items()
    }


def give_back(engine: Engine, user: User) -> EnvironmentAccess:
    return granting.give(engine.alice, environment=engine.environment, user=user, level="deploy")


def held_by(revoked: Revoked) -> list[UUID]:
    return [hit.id for hit in revocation.preview(revoked)]


def make(engine: Engine, actor: Actor, *steps: Any) -> Task:
    return control.create(actor, prepared(engine.environment, L("a", *steps)))


def test_an_open_environment_is_everybodys_whose_role_says_so(engine: Engine, olga: User) -> None:
    task = make(engine, Actor(olga), told("1"))
    control.start(Actor(olga), task)
    engine.settle()
    assert engine.state(task) == "executed"


def test_each_level_allows_what_it_says_and_not_more(
    engine: Engine, olga: User, ines: User
) -> None:
    restricted(engine)
    by_olga, by_ines = Actor(olga), Actor(ines)

    def lists(level: str) -> None:
        granting.give(engine.alice, environment=engine.environment, user=olga, level=level)

    with pytest.raises(Forbidden, match="may deploy to it") as refusal:
        make(engine, by_olga, told("1"))
    assert refusal.value.code == "environment_restricted"
    task = engine.make(L("a", told("1", "fail", "slow", "ok"), told("2")))
    for refused in (control.start, control.cancel, control.stop):
        with pytest.raises(Forbidden):
            refused(by_olga, task)

    lists("control")
    with pytest.raises(Forbidden, match="may deploy to it"):
        control.start(by_olga, task)  # the first start deploys
    with pytest.raises(Forbidden, match="may deploy to it"):
        scheduling.schedule(by_olga, task, at=timezone.now() + timezone.timedelta(days=1))
    task = engine.run(task)
    control.start(by_olga, task)  # and going on does not
    engine.settle()
    control.abort(by_olga, task)
    engine.settle()
    planwork.skip(by_olga, task, paths=["0_1_1_1"])
    with pytest.raises(Forbidden, match="may deploy to it"):
        control.roll_back(by_olga, task)  # makes a task
    assert engine.state(task) == "aborted"

    lists("deploy")
    control.start(by_olga, make(engine, by_olga, told("1")))
    with pytest.raises(Forbidden, match="may change it"):
        environments.update_environment(by_olga, engine.environment, description="Mine")
    with pytest.raises(Forbidden, match="may change it"):
        granting.give(by_olga, environment=engine.environment, user=olga, level="administer")

    lists("administer")
    environments.update_environment(by_olga, engine.environment, description="Ours")
    granting.give(by_olga, environment=engine.environment, user=ines, level="control")
    with pytest.raises(Forbidden):
        granting.restrict(by_ines, engine.environment, restricted=False)
    assert EnvironmentAccess.objects.count() == 2


def test_a_role_may_be_on_the_list_and_a_token_only_narrows(engine: Engine, olga: User) -> None:
    lines = restricted(engine, deploy=Role.objects.get(group__name="Operator"))
    _row, secret = tokens.create_token(Actor(olga), name="ci", scopes=["vms"])
    assert secret
    narrow = Actor(olga, token=_row)
    with pytest.raises(Forbidden, match="deployments") as refusal:
        make(engine, narrow, told("1"))
    assert refusal.value.code == "token_scope"
    make(engine, Actor(olga), told("1"))
    granting.revoke(engine.alice, lines["deploy"])
    with pytest.raises(Forbidden):
        make(engine, Actor(olga), told("1"))


def test_a_level_gives_no_permission_that_no_role_has(engine: Engine, bob: User) -> None:
    restricted(engine, administer=bob)
    with pytest.raises(Forbidden, match="roles do not allow"):
        make(engine, Actor(bob), told("1"))
    with pytest.raises(Forbidden, match="roles do not allow"):
        environments.update_environment(Actor(bob), engine.environment, description="Mine")


def test_who_restricts_is_on_the_list_and_its_dictionaries_are_guarded(
    engine: Engine, olga: User, ines: User
) -> None:
    values = dictionaries.create_dictionary(Actor(olga), name="Values")
    environments.update_environment(Actor(olga), engine.environment, dictionaries=[values])
    granting.restrict(Actor(olga), engine.environment)
    assert EnvironmentAccess.objects.get().level == "administer"
    environments.update_environment(Actor(olga), engine.environment, description="Still")
    for forbidden in (
        lambda: dictionaries.update_dictionary(Actor(ines), values, entries={"a": "b"}),
        lambda: environments.update_environment(Actor(ines), engine.environment, name="x"),
        lambda: environments.add_member(Actor(ines), engine.environment, tag="web"),
        lambda: environments.delete_environment(Actor(ines), engine.environment),
    ):
        with pytest.raises(Forbidden, match="may change it"):
            forbidden()
    own = environments.create_environment(Actor(ines), name="Own", restricted=True)
    with pytest.raises(Forbidden):
        environments.update_environment(Actor(olga), own, name="Mine")
    environments.update_environment(Actor(ines), own, description="Ines’s")
    with pytest.raises(Invalid, match="either a user or a role"):
        granting.give(Actor(ines), environment=own, level="deploy")


def test_who_lost_the_right_has_no_further_step_begun_and_who_may_continues(
    engine: Engine, olga: User, ines: User
) -> None:
    lines = restricted(engine, deploy=olga, control=ines)
    task = make(engine, Actor(olga), told("1", "slow"), told("2"), told("3"))
    control.start(Actor(olga), task)
    engine.settle()
    assert [hit.name for hit in granting.impact(engine.alice, lines["deploy"])] == ["Shop 1.0"]
    job = granting.revoke(engine.alice, lines["deploy"])
    assert job.result == {
        "from": "olga",
        "level": "deploy",
        "hit": [f"task:{task.pk}"],
    }
    engine.settle()
    assert engine.steps(task)["1"] == "executing"  # what runs goes on to its end
    engine.release("1")
    assert engine.steps(task) == {"1": "done", "2": "pending", "3": "pending"}
    assert engine.state(task) == "stopped"
    assert engine.reread(task).reason == (
        "Held: it acts as olga, who may no longer control tasks in staging, which is restricted. "
        "Somebody who may can continue it."
    )
    assert AuditEvent.objects.filter(action="task.held", subject=task.subject).count() == 1
    assert task.notes.filter(verb="held").count() == 1
    with pytest.raises(Forbidden):
        control.start(Actor(olga), engine.reread(task))
    control.start(Actor(ines), engine.reread(task))
    engine.settle()
    assert engine.state(task) == "executed"
    with pytest.raises(NotFound):
        granting.revoke(engine.alice, lines["deploy"])


def test_a_role_that_is_taken_away_and_a_token_that_ends_hold_as_well(
    engine: Engine, olga: User
) -> None:
    row, _ = tokens.create_token(Actor(olga), name="ci", scopes=["deployments"])
    by_token = make(engine, Actor(olga, token=row), told("1", "slow"), told("2"))
    control.start(Actor(olga, token=row), by_token)
    by_role = make(engine, Actor(olga), told("a", "slow"), told("b"))
    control.start(Actor(olga), by_role)
    engine.settle()
    assert held_by(Revoked("token", row.pk)) == [by_token.pk]
    assert held_by(Revoked("user", olga.pk)) == [by_token.pk, by_role.pk]
    tokens.revoke_token(engine.alice, row)
    engine.release("1")
    assert "acted by the token ci" in engine.reread(by_token).reason
    assert [hit.id for hit in users.preview_roles(olga, [])] == [by_role.pk]
    users.set_roles(engine.alice, olga, [])
    engine.release("a")
    assert (engine.state(by_role), engine.steps(by_role)["b"]) == ("stopped", "pending")
    assert "may no longer run deployments" in engine.reread(by_role).reason


def test_a_role_that_is_on_the_list_of_an_environment_is_missed_when_it_goes(
    engine: Engine, olga: User
) -> None:
    group = Group.objects.create(name="Deployers")
    other = Role.objects.create(group=group, permissions=["deployments.run"])
    olga.groups.add(other.group)
    restricted(engine, deploy=other)
    task = make(engine, Actor(olga), told("1", "slow"))
    control.start(Actor(olga), task)
    engine.settle()
    kept = [role for role in Role.objects.of(olga.pk) if role.pk != other.pk]
    assert [hit.id for hit in users.preview_roles(olga, kept)] == [task.pk]
    assert users.preview_roles(olga, [*kept, other]) == []


def test_a_step_that_was_let_in_but_has_not_begun_pauses_and_books_are_kept(
    engine: Engine, olga: User
) -> None:
    lines = restricted(engine, deploy=olga)
    task = make(engine, Actor(olga), told("1"))
    control.start(Actor(olga), task)
    from jobs import running

    running.run_job(engine.reread(task).job_id)  # type: ignore[arg-type]
    assert engine.steps(task) == {"1": "executing"}
    granting.revoke(engine.alice, lines["deploy"])
    engine.settle()
    assert (engine.steps(task), engine.state(task)) == ({"1": "paused"}, "stopped")
    assert "who may no longer control" in engine.reread(task).reason
    engine.start(task)
    engine.settle()
    assert engine.state(task) == "executed"

    again = give_back(engine, olga)
    tries = make(engine, Actor(olga), told("r", "retry"))
    control.start(Actor(olga), tries)
    engine.settle()
    assert engine.step(tries, "r").reason == "Not yet."
    granting.revoke(engine.alice, again)
    engine.pass_time()  # another try of the step is one that begins
    assert (engine.steps(tries), engine.state(tries)) == ({"r": "paused"}, "stopped")

    last = make(engine, engine.alice, told("2", "slow"))
    control.start(engine.alice, last)
    engine.settle()
    Task.objects.filter(pk=last.pk).update(started_by=olga)
    engine.release("2")
    # Nothing is left but to register what was done, which is no further change.
    assert engine.state(last) == "executed"


def test_an_approver_is_told_whom_the_task_acts_as_when_that_one_may_no_longer(
    engine: Engine, olga: User, ines: User
) -> None:
    lines = restricted(engine, deploy=olga, control=ines)
    policy = {"approvals": [{"name": "Go", "at": "start"}]}
    tree = S(P(L("a", told("1")), L("b", told("2"))))
    task = control.create(Actor(olga), prepared(engine.environment, tree, policy=policy))
    control.start(Actor(olga), task)
    engine.settle()
    granting.revoke(engine.alice, lines["deploy"])
    step = engine.step(task, "Wait for approval: Go")
    with pytest.raises(Forbidden, match="would go on as olga") as refusal:
        planwork.approve(Actor(ines), task, path=step.path)
    assert "Continue it yourself" in refusal.value.message
    assert engine.state(task) == "stopped"


def test_what_each_change_of_the_list_tells(engine: Engine, olga: User, audrey: User) -> None:
    lines = restricted(engine, deploy=olga)
    granting.give(engine.alice, environment=engine.environment, user=olga, level="control")
    granting.revoke(engine.alice, lines["deploy"])
    granting.restrict(engine.alice, engine.environment, restricted=False)
    rows = AuditEvent.objects.filter(subject=engine.environment.subject).order_by("pk")
    assert [(row.action, row.data.get("before"), row.data.get("after")) for row in rows] == [
        ("environment.restricted", {"restricted": False}, {"restricted": True}),
        ("environment.access_given", {"level": None}, {"level": "deploy"}),
        ("environment.access_given", {"level": "deploy"}, {"level": "control"}),
        ("environment.access_revoked", None, None),
        ("environment.opened", {"restricted": True}, {"restricted": False}),
    ]
    assert Event.objects.filter(kind="environment.changed").count() == 5
    with pytest.raises(Forbidden):
        granting.restrict(Actor(audrey), engine.environment)


def test_it_says_how_far_each_account_can_go_and_why(
    engine: Engine, olga: User, bob: User, audrey: User, charlie: User
) -> None:
    def reach(user: User, viewer: User | None = None) -> tuple[list[str], str]:
        found = access.reach_of(Actor(viewer) if viewer else engine.alice, user)
        return found[0].levels, found[0].why

    assert reach(olga)[0] == ["control", "deploy", "administer"]
    assert reach(bob) == ([], "No role lets it deploy or change environments.")
    lines = restricted(engine, deploy=Role.objects.get(group__name="Operator"))
    assert reach(olga, viewer=audrey) == (
        ["control", "deploy"],
        "It is on the list by its role Operator: deploy.",
    )
    assert reach(engine.alice.user)[1] == "A role lets it act in every environment."  # type: ignore[arg-type]
    granting.revoke(engine.alice, lines["deploy"])
    assert reach(olga) == ([], "It is not on the list of this restricted environment.")
    assert access.reach_of(Actor(charlie), charlie) == []


# On PostgreSQL, at once -------------------------------------------------------------------------


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_a_start_in_flight_is_waited_for_and_then_hit(engine: Engine, olga: User) -> None:
    """The start takes the line of the list; who revokes it waits, and finds the task."""
    lines = restricted(engine, deploy=olga)
    task = make(engine, Actor(olga), told("1"))
    jobs: list[Job] = []
    with (
        running_beside(
            lambda: jobs.append(granting.revoke(engine.alice, lines["deploy"]))
        ) as beside,
        transaction.atomic(),
    ):
        control.start(Actor(olga), task)
        beside.start()
        until(_somebody_waits, 30, "the revocation waits for the start")
        assert not jobs
    assert jobs[0].result["hit"] == [task.subject]
    with pytest.raises(Forbidden):
        control.start(Actor(olga), task)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_a_step_that_is_being_let_in_is_waited_for(engine: Engine, olga: User) -> None:
    """Whoever lets it in has looked at the list behind the gate, and has not committed yet."""
    lines = restricted(engine, deploy=olga)
    task = make(engine, Actor(olga), told("1", "slow"), told("2"))
    control.start(Actor(olga), task)
    with (
        running_beside(lambda: granting.revoke(engine.alice, lines["deploy"])) as beside,
        transaction.atomic(),
    ):
        admitting.hold_gate()
        assert rights.why_held(engine.reread(task)) == ""
        beside.start()
        until(_somebody_waits, 30, "the revocation waits for the gate")
        assert EnvironmentAccess.objects.filter(user=olga).exists()
    assert "no longer control" in rights.why_held(engine.reread(task))
    engine.settle()
    assert (engine.state(task), engine.steps(task)["1"]) == ("stopped", "pending")


@contextmanager
def running_beside(function: Callable[[], Any]) -> Iterator[Thread]:
    """Give a thread that runs `function`, and wait for its end."""

    def run() -> None:
        try:
            function()
        finally:
            connection.close()

    thread = Thread(target=run)
    yield thread
    thread.join(30)
    assert not thread.is_alive()


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_starts_against_a_revocation_are_refused_or_held_and_no_step_begins_after_it(
    engine: Engine, olga: User
) -> None:
    from tests.faults.test_races import at_once

    lines = restricted(engine, deploy=olga)
    tasks = [make(engine, Actor(olga), told(f"{one}", "slow"), told("x")) for one in range(8)]
    hit: list[str] = []

    def start(task: Task) -> str:
        from jobs import running

        try:
            job = control.start(Actor(olga), task)
        except Refusal as refusal:
            return refusal.code
        running.run_job(job.pk)
        return "started"

    def revoke() -> str:
        hit.extend(granting.revoke(engine.alice, lines["deploy"]).result["hit"])
        return str(Step.objects.filter(state="executing").count())

    told_of = at_once(*[lambda task=task: start(task) for task in tasks], revoke)
    begun = int(told_of.pop())
    assert set(told_of) <= {"started", "environment_restricted"}, told_of
    assert Step.objects.filter(state="executing").count() == begun
    started = {task.subject for task, word in zip(tasks, told_of, strict=True) if word == "started"}
    assert started == set(hit)
    engine.settle()
    for task in tasks:
        if task.subject in started:
            assert engine.state(task) == "stopped"
            assert "who may no longer" in engine.reread(task).reason
        else:
            assert engine.state(task) == "pending"
