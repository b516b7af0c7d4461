"""Tasks by page and by API v2: what is shown, what can be done, and by whom."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import tokens
from deployments.models import Step, StepLog, Task
from jobs.models import Job
from tests.deployments.running.conftest import L, P, S, told

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from tests.deployments.running.conftest import Engine


@pytest.fixture
def api(engine: Engine) -> APIClient:
    _row, secret = tokens.create_token(engine.alice, name="ci", scopes=["deployments"])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def ok(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.content
    return answer.json()


def test_a_task_is_read_and_controlled_by_api(engine: Engine, api: APIClient) -> None:
    tree = S(L("a", told("1"), told("2", "fail", "ok")), P(L("b", told("3")), L("c", told("4"))))
    task = engine.make(tree)
    base = f"/api/v2/tasks/{task.pk}"

    def post(verb: str, body: dict[str, Any] | None = None, **more: Any) -> Any:
        return api.post(f"{base}/{verb}/", body or {}, format="json", **more)

    shown = ok(api.get(f"{base}/"))
    assert (shown["state"], shown["steps_total"], shown["environment"]["name"]) == (
        *("pending", 5),
        "staging",
    )
    blocks = ok(api.get(f"{base}/plan/"))["blocks"]
    assert [one["path"] for one in blocks] == [
        *("0", "0_1", "0_1_1", "0_1_1_1", "0_1_1_2", "0_1_1_2_1", "0_1_1_2_2", "0_2", "0_2_1")
    ]
    inside = ok(api.get(f"{base}/blocks/0_1_1_1/"))
    assert [(one["path"], one["text"]) for one in inside["steps"]] == [
        *(("0_1_1_1_1", "1"), ("0_1_1_1_2", "2"))
    ]
    assert [one["label"] for one in ok(api.get(f"{base}/blocks/0_1_1_2/"))["blocks"]] == ["b", "c"]
    ok(post("pause", {"path": "0_1_1_2_1_1"}), 202)
    ok(post("skip", {"paths": ["0_1_1_2_2"]}), 202)
    key = {"HTTP_IDEMPOTENCY_KEY": "start-1"}
    job = ok(post("start", **key), 202)
    assert (job["kind"], job["subject"]) == ("task.run", f"task:{task.pk}")
    again = post("start", **key)
    assert (ok(again, 202)["id"], again["Idempotent-Replayed"]) == (job["id"], "true")
    engine.settle()
    assert ok(api.get(f"{base}/"))["state"] == "failed"
    assert ok(api.get(f"/api/v2/jobs/{job['id']}/"))["state"] == "failed"
    lines = ok(api.get(f"{base}/steps/0_1_1_1_2/log/"))["results"]
    assert [one["text"] for one in lines][1:] == ["told to be fail", "It broke. Mend it."]
    found = ok(api.get(f"{base}/steps/", {"state": "failed"}))["results"]
    assert [(one["path"], one["failures"]) for one in found] == [("0_1_1_1_2", 1)]
    assert ok(post("stop"), 409)["code"] == "conflict"
    ok(post("continue"), 202)
    engine.settle()
    assert ok(api.get(f"{base}/steps/0_1_1_2_1_1/"))["state"] == "paused"
    ok(post("continue"), 202)
    engine.settle()
    assert ok(api.get(f"{base}/"))["state"] == "executed"
    report = ok(api.get(f"{base}/report/"))["report"]
    assert (report["outcome"], report["runs"], report["owner"]) == ("retried", 3, "alice")
    assert [one["verb"] for one in report["timeline"]] == [
        *("created", "paused", "skipped", "started", "failed", "continued", "stopped"),
        *("continued", "executed"),
    ]
    ok(post("archive"), 202)
    assert ok(post("rollback"), 409)["detail"].startswith("This task is done")
    assert ok(api.get("/api/v2/tasks/", {"state": "done"}))["results"][0]["id"] == str(task.pk)
    for path in ("blocks/9/", "steps/0_1_1_1_9/", "steps/x/", "blocks/%00/"):
        assert api.get(f"{base}/{path}").status_code in (400, 404)


def test_schedule_cancel_and_abort_by_api(engine: Engine, api: APIClient) -> None:
    task = engine.make(L("a", told("1", "slow")))
    base = f"/api/v2/tasks/{task.pk}"
    at = (timezone.now() + timedelta(days=1)).isoformat()
    ok(api.post(f"{base}/schedule/", {"at": at}, format="json"), 202)
    assert ok(api.get(f"{base}/"))["state"] == "scheduled"
    past = {"at": "2020-01-01T00:00:00Z"}
    refused = ok(api.post(f"{base}/schedule/", past, format="json"), 400)
    assert "in the past" in refused["errors"]["at"][0]
    ok(api.post(f"{base}/start/"), 202)
    engine.settle()
    ok(api.post(f"{base}/abort/"), 202)
    engine.settle()
    assert ok(api.get(f"{base}/"))["state"] == "aborted"
    ok(api.post(f"{base}/cancel/", {}, format="json"), 202)
    assert ok(api.get(f"{base}/"))["state"] == "cancelled"


def test_who_may_see_and_do_what(
    engine: Engine, client: Client, audrey: User, charlie: User
) -> None:
    task = engine.make(L("a", told("1")))
    client.force_login(charlie)
    assert client.get(f"/tasks/{task.pk}/").status_code == 404
    assert client.post(f"/tasks/{task.pk}/start/").status_code == 404
    client.force_login(audrey)
    page = client.get(f"/tasks/{task.pk}/").content.decode()
    assert "Shop 1.0" in page
    assert "/start/" not in page
    assert client.post(f"/tasks/{task.pk}/start/").status_code == 403
    assert engine.state(task) == "pending"


def test_the_running_view_shows_where_it_is_and_folds_the_rest(
    engine: Engine, client: Client, alice: User, django_assert_max_num_queries: Any
) -> None:
    leaves = [
        L(f"vm-{one}", *(told(f"{one}/{step}", "ok", "ok") for step in range(20)), key=f"k{one}")
        for one in range(100)
    ]
    task = engine.make(S(P(*leaves), L("last", told("end"))))
    client.force_login(alice)
    url = f"/tasks/{task.pk}/"
    with django_assert_max_num_queries(40):
        page = client.get(url).content.decode()
    assert page.count('id="block-') < 70
    assert page.count("plan-step") == 20  # the first leaf, which comes next
    assert "40 more" in page
    later = client.get(
        url, {"follow": "no", "open": ["0_1", "0_1_1", "0_1_1_1"], "at": "0_1_1_1:60"}
    )
    assert "vm-99" in later.content.decode()
    assert page.count("vm-99") == 0
    # As after a run: two thousand steps inline would take the test a minute.
    now = timezone.now()
    Task.objects.filter(pk=task.pk).update(state="failed", started_at=now, ended_at=now)
    task.blocks.update(state="done", started_at=now, ended_at=now)
    task.steps.update(state="done", started_at=now, ended_at=now)
    Step.objects.filter(task=task, text="70/3").update(state="failed", reason="It broke.")
    StepLog.objects.create(step=engine.step(task, "70/3"), attempt=1, text="told to be broken")
    shown = client.get(url).content.decode()
    assert "70/3" in shown
    assert 'aria-labelledby="time-title"' in shown
    assert "62 more lanes are in the report" in shown
    closed = client.get(url, {"follow": "no", "step": "0_1_1_1_71_4"}).content.decode()
    assert closed.count("plan-step") == 0
    assert "told to be broken" in closed  # the log of the step that was chosen


def test_pages_do_what_the_verbs_do(engine: Engine, client: Client, alice: User) -> None:
    client.force_login(alice)
    task = engine.make(L("a", told("1"), told("2", "fail", "ok"), told("3")))
    url = f"/tasks/{task.pk}"
    assert "Shop 1.0" in client.get("/tasks/", {"state": "open", "q": "shop"}).content.decode()
    client.post(f"{url}/steps/0_1_1_3/skip/")
    client.post(f"{url}/steps/0_1_1_3/unskip/")
    client.post(f"{url}/steps/0_1_1_3/pause/")
    assert client.post(f"{url}/start/").status_code == 303
    engine.settle()
    page = client.get(f"{url}/").content.decode()
    assert "It broke. Mend it." in page
    assert f"{url}/continue/" in page
    client.post(f"{url}/continue/")
    engine.settle()
    assert engine.reread(task).reason.startswith("Step 3 “Pause the execution”")
    client.post(f"{url}/continue/")
    engine.settle()
    assert engine.state(task) == "executed"
    report = json.loads(client.get(f"{url}/report.json").content)
    assert (report["state"], report["steps_by_state"]) == ("executed", {"done": 5})
    rows = list(csv.DictReader(io.StringIO(client.get(f"{url}/report.csv").content.decode())))
    assert [row["text"] for row in rows][2:4] == ["Pause the execution", "3"]
    assert rows[1]["attempts"] == "2"
    other = engine.make(L("a", told("1", "pause")))
    client.post(f"/tasks/{other.pk}/start/")
    engine.settle()
    assert "What was done so far" in client.get(f"/tasks/{other.pk}/cancel/").content.decode()
    client.post(f"/tasks/{other.pk}/cancel/")
    assert engine.state(other) == "cancelled"
    planned = engine.make(L("a", told("1")))
    assert (
        client.post(f"/tasks/{planned.pk}/schedule/", {"at": "2020-01-01T00:00"}).status_code == 400
    )
    removed = client.post(f"/tasks/{planned.pk}/cancel/")
    assert removed["Location"] == "/tasks/"
    assert not Job.objects.filter(state="failed", kind="task.control").exists()
