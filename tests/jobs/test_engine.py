"""Claims, fences, lanes, cancelling, lost workers: what every job relies on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.db.models.functions import Now

from accounts.actors import SYSTEM
from jobs import claims, handlers, queueing, running, sweeping
from jobs.models import Job
from jobs.outcomes import Again, Cancelled, Done, Fail, Outcome
from orchestrator.db.clock import from_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from jobs.claims import Claim

pytestmark = [pytest.mark.stores, pytest.mark.django_db(transaction=True)]


class Scripted(handlers.Handler):
    """Runs what a test gives it, and counts."""

    first = "one"
    calls = frozenset({"call"})
    cancellable = True

    def __init__(self) -> None:
        self.script: Callable[[Claim], Outcome] = lambda claim: Done()
        self.runs = 0
        self.failures: list[str] = []

    def run(self, claim: Claim) -> Outcome:
        self.runs += 1
        return self.script(claim)

    def failed(self, job: Job, error: str) -> None:
        self.failures.append(error)


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    made = Scripted()
    monkeypatch.setitem(handlers._handlers, "test.job", made)
    return made  # type: ignore[return-value]


def job(**options: object) -> Job:
    return queueing.enqueue("test.job", "thing:1", SYSTEM, **options)  # type: ignore[arg-type]


def test_a_job_runs_its_steps_and_keeps_its_result(handler: Scripted) -> None:
    def script(claim: Claim) -> Outcome:
        if claim.job.step == "one":
            return Again(step="two", payload={"seen": 1}, progress=50, message="half")
        return Done({"answer": claim.job.payload["seen"]}, "ready")

    handler.script = script
    made = job()
    running.run_job(made.pk)
    made.refresh_from_db()
    assert (made.state, made.result, made.message, made.progress) == (
        "done",
        {"answer": 1},
        "ready",
        100,
    )
    assert (made.fence, made.lease_until) == (2, None)


def test_a_job_that_goes_on_at_once_is_nobody_elses_between_its_steps(
    handler: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: list[object] = []
    really = running.claim

    def claim(job_id: UUID) -> Claim | None:
        claimed.append(job_id)
        return really(job_id)

    def script(claim: Claim) -> Outcome:
        states.append(Job.objects.values_list("state", "fence").get(pk=made.pk))
        return Done() if claim.job.step == "three" else Again(step=after[claim.job.step])

    monkeypatch.setattr(running, "claim", claim)
    states: list[tuple[str, int]] = []
    after = {"one": "two", "two": "three"}
    handler.script = script
    made = job()
    running.run_job(made.pk)
    assert states == [("running", 1), ("running", 2), ("running", 3)]
    assert claimed == [made.pk]


def test_a_job_cancelled_during_a_step_is_cancelled_before_the_next(handler: Scripted) -> None:
    def script(claim: Claim) -> Outcome:
        queueing.request_cancel(made, reason="enough")
        return Again(step="two")

    handler.script = script
    made = job()
    running.run_job(made.pk)
    made.refresh_from_db()
    assert (handler.runs, made.state, made.lease_until) == (1, "cancelled", None)


def test_only_jobs_that_wait_to_be_woken_are_ended_at_once(handler: Scripted) -> None:
    parked, woken, due = job(parked=True), job(parked=True), job()
    queueing.proceed(woken, "two")
    ids = [parked.pk, woken.pk, due.pk]
    assert queueing.end_parked(ids, reason="enough") == {parked.pk}
    assert queueing.end_parked(ids, reason="enough") == set()
    parked.refresh_from_db()
    assert (parked.state, parked.message) == ("cancelled", "enough")
    assert parked.finished_at
    running.run_job(parked.pk)
    assert handler.runs == 0


def test_one_of_many_bells_wins(handler: Scripted) -> None:
    made = job()
    barrier = threading.Barrier(8)

    def ring() -> None:
        barrier.wait()
        try:
            running.run_job(made.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=ring) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handler.runs == 1


def test_a_worker_that_lost_its_claim_writes_nothing(handler: Scripted) -> None:
    made = job()
    lost = claims.claim(made.pk)
    assert lost
    Job.objects.update(lease_until=from_now(-1))
    sweeping.sweep()
    again = claims.claim(made.pk)
    assert again
    for write in (
        lambda: lost.note("hello"),
        lambda: lost.remember(a=1),
        lambda: running.settle(lost.job, Done()),
        lost.renew,
    ):
        with pytest.raises(claims.Fenced):
            write()
    running.settle(again.job, Done({"by": "second"}))
    made.refresh_from_db()
    assert made.result == {"by": "second"}


def test_a_lost_worker_that_was_sending_ends_a_job_that_may_not_be_repeated(
    handler: Scripted,
) -> None:
    handler.__class__.lost = "ask"
    try:
        made = job()
        held = claims.claim(made.pk)
        assert held
        with held.sending():
            pass
        Job.objects.update(lease_until=from_now(-1))
        sweeping.sweep()
    finally:
        handler.__class__.lost = "repeat"
    made.refresh_from_db()
    assert made.state == "failed"
    assert made.error.startswith("Outcome unknown")
    assert handler.failures == [made.error]
    with pytest.raises(claims.Fenced):
        running.settle(held.job, Done())


def test_a_step_that_raises_is_tried_again_and_then_fails_with_a_general_sentence(
    handler: Scripted,
) -> None:
    def script(claim: Claim) -> Outcome:
        raise RuntimeError("secret detail")

    handler.script = script
    made = job()
    for _ in range(running.MAXIMUM_FAILURES):
        Job.objects.update(run_after=Now())
        running.run_job(made.pk)
    made.refresh_from_db()
    assert made.state == "failed"
    assert "secret" not in made.error
    assert handler.runs == running.MAXIMUM_FAILURES


def test_a_lane_lets_only_so_many_calls_through(handler: Scripted, settings: object) -> None:
    settings.HOST_MAX_CALLS = 2  # type: ignore[attr-defined]
    handler.__class__.first = "call"
    try:
        made = [job(lane="host:1") for _ in range(4)]
        other = job(lane="host:2")
    finally:
        handler.__class__.first = "one"
    held = [claims.claim(one.pk) for one in made]
    assert [bool(one) for one in held] == [True, True, False, False]
    assert claims.claim(other.pk)
    running.settle(held[0].job, Done())  # type: ignore[union-attr]
    Job.objects.filter(state="queued").update(run_after=Now())
    assert claims.claim(made[2].pk)


def test_cancelling_a_running_job_lets_the_step_end_first(handler: Scripted) -> None:
    made = job()
    held = claims.claim(made.pk)
    assert held
    assert queueing.request_cancel(made, reason="enough")
    assert claims.claim(made.pk) is None
    running.settle(held.job, Again(seconds=30))
    made.refresh_from_db()
    assert made.state == "cancelling"
    Job.objects.update(run_after=Now())
    running.run_job(made.pk)
    made.refresh_from_db()
    assert made.state == "cancelled"
    assert not queueing.request_cancel(made)


def test_a_job_that_finishes_while_it_is_cancelled_is_done(handler: Scripted) -> None:
    made = job()
    held = claims.claim(made.pk)
    assert held
    queueing.request_cancel(made)
    running.settle(held.job, Done())
    made.refresh_from_db()
    assert made.state == "done"


def test_a_unique_key_gives_one_open_job(handler: Scripted) -> None:
    first, second = job(unique_key="k"), job(unique_key="k")
    assert first == second
    running.run_job(first.pk)
    assert job(unique_key="k") != first


def test_a_parked_job_waits_for_proceed(handler: Scripted) -> None:
    made = job(parked=True)
    running.run_job(made.pk)
    assert handler.runs == 0
    assert queueing.proceed(made, "two")
    assert not queueing.proceed(made, "two")
    running.run_job(made.pk)
    made.refresh_from_db()
    assert (made.state, made.step) == ("done", "two")


def test_an_effect_and_its_settlement_happen_together_or_not_at_all(handler: Scripted) -> None:
    made = job()
    held = claims.claim(made.pk)
    assert held
    Job.objects.update(fence=99)

    def write() -> None:
        Job.objects.filter(pk=made.pk).update(message="x")

    with pytest.raises(claims.Fenced):
        running.settle(
            held.job,
            Done(effect=lambda: Job.objects.filter(pk=made.pk).update(message="x") and None),
        )
    made.refresh_from_db()
    assert made.message == ""


def test_the_sweeper_finds_what_nobody_heard(
    handler: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[object] = []

    def send(task: str, args: tuple[str, ...], queue: str, delay: float = 0) -> bool:
        rung.append(args[0])
        return True

    monkeypatch.setattr("jobs.bell._send", send)
    made, later = job(), job()
    Job.objects.filter(pk=later.pk).update(run_after=from_now(60))
    rung.clear()
    Job.objects.update(rung_at=None)
    sweeping.sweep()
    assert rung == [str(made.pk)]
    sweeping.sweep()  # not blindly again
    assert rung == [str(made.pk)]
    Job.objects.update(rung_at=from_now(-60))
    sweeping.sweep()
    assert len(rung) == 2


def test_every_job_kind_that_the_code_enqueues_has_a_handler() -> None:
    import re
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    used: set[str] = set()
    for room in ("accounts", "hosts", "catalog", "vms", "orchestrator", "jobs"):
        for file in (root / room).rglob("*.py"):
            used.update(
                re.findall(r'(?:enqueue|record_done)\(\s*f?"([a-z]+\.[a-z_]+)"', file.read_text())
            )
    assert used
    assert used <= set(handlers.kinds())


def test_outcomes_of_a_cancel_and_of_a_refusal(handler: Scripted) -> None:
    from orchestrator.refusals import Conflict

    def refuse(claim: Claim) -> Outcome:
        raise Conflict("Not now.")

    handler.script = refuse
    made = job()
    running.run_job(made.pk)
    made.refresh_from_db()
    assert (made.state, made.error) == ("failed", "Not now.")
    handler.script = lambda claim: Cancelled("undone")
    other = job()
    running.run_job(other.pk)
    other.refresh_from_db()
    assert (other.state, other.message) == ("cancelled", "undone")
    handler.script = lambda claim: Fail("No.")
    third = job()
    running.run_job(third.pk)
    third.refresh_from_db()
    assert third.error == "No."
    assert third.lines.get().text == "No."
