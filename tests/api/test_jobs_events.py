from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actors import Actor
from events.publishing import publish
from events.sealing import seal_events
from jobs import handlers
from jobs.models import Job, JobLine
from jobs.queueing import enqueue, record_done
from tests.api.conftest import Api, is_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User

pytestmark = pytest.mark.django_db
MISSING = "01890000-0000-7000-8000-000000000000"
SHOWN = {
    "id",
    "kind",
    "state",
    "progress",
    "message",
    "result",
    "error",
    "subject",
    "parent",
    "requested_by",
    "token",
    "failures",
    "created_at",
    "finished_at",
}


class Endless(handlers.Handler):
    first = "begin"
    cancellable = True


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(handlers._handlers, "test.endless", Endless())
    monkeypatch.setitem(handlers._handlers, "test.done", handlers.AtOnce())


def test_jobs_are_shown_to_whoever_may_see_them(
    admin: Api, developer: Api, api_of: Callable[..., Api], alice: User, bob: User, charlie: User
) -> None:
    own = record_done("test.done", "vm:1", Actor(user=bob), result={"exit_code": 0})
    other = record_done("test.done", "vm:2", Actor(user=alice))
    shown = developer.get(f"jobs/{own.pk}/").json()
    assert shown.keys() == SHOWN
    assert (shown["state"], shown["progress"], shown["result"]) == ("done", 100, {"exit_code": 0})
    assert shown["requested_by"] == {"id": str(bob.pk), "name": "bob"}
    assert shown["finished_at"].endswith("Z")
    assert is_problem(developer.get(f"jobs/{other.pk}/"), 404, "not_found")
    assert [job["id"] for job in developer.get("jobs/").json()["results"]] == [str(own.pk)]
    assert len(admin.get("jobs/").json()["results"]) == 2
    assert api_of(charlie).get("jobs/").json()["results"] == []
    assert is_problem(admin.get(f"jobs/{MISSING}/"), 404)


def test_jobs_are_filtered(admin: Api, alice: User) -> None:
    record_done("test.done", "vm:1", Actor(user=alice))
    enqueue("test.endless", "vm:2", Actor(user=alice))

    def subjects(query: str) -> list[str]:
        return [job["subject"] for job in admin.get(f"jobs/?{query}").json()["results"]]

    assert subjects("kind=test.done") == ["vm:1"]
    assert subjects("state=queued&state=running") == ["vm:2"]
    assert subjects("subject=vm:1") == ["vm:1"]
    assert subjects(f"parent={MISSING}") == []
    assert is_problem(admin.get("jobs/?state=perhaps"), 400)
    assert is_problem(admin.get("jobs/?parent=x"), 400)


def test_a_job_is_cancelled_once(admin: Api, developer: Api, alice: User) -> None:
    job = enqueue("test.endless", "vm:2", Actor(user=alice))
    assert is_problem(developer.post(f"jobs/{job.pk}/cancel/"), 404)
    cancelled = admin.post(f"jobs/{job.pk}/cancel/")
    assert cancelled.status_code == 202
    assert cancelled.json()["state"] == "cancelling"
    assert is_problem(admin.post(f"jobs/{job.pk}/cancel/"), 409, "conflict")
    done = record_done("test.done", "vm:1", Actor(user=alice))
    assert is_problem(admin.post(f"jobs/{done.pk}/cancel/"), 409)
    assert Job.objects.get(pk=done.pk).state == "done"


def test_a_replayed_verb_answers_with_its_job(admin: Api, alice: User) -> None:
    job = enqueue("test.endless", "vm:2", Actor(user=alice))
    for replayed in (False, True):
        answer = admin.post(f"jobs/{job.pk}/cancel/", Idempotency_Key="c1")
        assert answer.status_code == 202
        assert answer.json()["id"] == str(job.pk)
        assert ("Idempotent-Replayed" in answer) == replayed


def test_a_log_is_read_in_order_and_followed(admin: Api, developer: Api, alice: User) -> None:
    job = enqueue("test.endless", "vm:2", Actor(user=alice))
    for number in range(5):
        JobLine.objects.create(job=job, text=f"line {number}")
    page = admin.get(f"jobs/{job.pk}/log/?page_size=3").json()
    assert [line["text"] for line in page["results"]] == ["line 0", "line 1", "line 2"]
    rest = admin.get(page["next"]).json()
    assert [line["text"] for line in rest["results"]] == ["line 3", "line 4"]
    assert rest["next"] is None
    last = rest["results"][-1]["id"]
    JobLine.objects.create(job=job, text="more")
    more = admin.get(f"jobs/{job.pk}/log/?after={last}").json()
    assert [line["text"] for line in more["results"]] == ["more"]
    assert is_problem(developer.get(f"jobs/{job.pk}/log/"), 404)


def test_events_are_paged_by_sequence_and_narrowed_to_the_reader(
    admin: Api, developer: Api, bob: User
) -> None:
    seal_events()
    start = max([0, *(e["sequence"] for e in admin.get("events/").json()["results"])])
    for number in range(3):
        publish("test.open", f"vm:{number}", {"n": number}, permission="vms.view_all")
    publish("test.own", "vm:9", permission="vms.view_all", owner_id=bob.pk)
    publish("test.unsealed", "vm:10", permission="vms.view_all")
    from events.models import Event

    late = Event.objects.get(kind="test.unsealed")
    seal_events()
    Event.objects.filter(pk=late.pk).update(sequence=None)

    page = admin.get(f"events/?after={start}&page_size=2").json()
    assert page.keys() == {"next", "results"}
    assert page["results"][0].keys() == {"sequence", "kind", "subject", "data", "created_at"}
    rest = admin.get(page["next"]).json()
    numbers = [event["sequence"] for event in page["results"] + rest["results"]]
    assert numbers == list(range(start + 1, start + 5))
    assert rest["next"] is None
    own = developer.get(f"events/?after={start}").json()["results"]
    assert [event["kind"] for event in own] == ["test.own"]
    kinds = admin.get(f"events/?after={start}&kind=test.own").json()["results"]
    assert [event["subject"] for event in kinds] == ["vm:9"]


@pytest.mark.parametrize("after", ["x", "-1", "9" * 30, "%00", "٣", "9223372036854775808"])
def test_a_bad_number_is_400(admin: Api, after: str) -> None:
    assert is_problem(admin.get(f"events/?after={after}"), 400)


@pytest.mark.parametrize(("path", "queries"), [("jobs/", 3), ("events/", 3)])
def test_lists_cost_the_same_for_many_rows(
    admin: Api,
    alice: User,
    path: str,
    queries: int,
    django_assert_num_queries: Callable[..., Any],
) -> None:
    admin.get(path)
    for _ in range(2):
        record_done("test.done", "vm:1", Actor(user=alice))
        seal_events()
        with django_assert_num_queries(queries):
            admin.get(path)
