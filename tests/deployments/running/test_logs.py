"""The log of a step: new lines come alone, and are told once however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deployments.models import StepLog
from deployments.running import logs
from events.models import Event, Webhook
from events.sealing import seal_events
from tests.deployments.running.conftest import L, told

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from tests.deployments.running.conftest import Engine

HTMX = {"HTTP_HX_REQUEST": "true"}


def test_many_lines_are_one_event_until_it_is_told(
    engine: Engine, django_capture_on_commit_callbacks: Any
) -> None:
    task = engine.make(L("a", told("1", "slow")))
    engine.run(task)
    step = engine.step(task, "1")
    told_of = Event.objects.filter(kind="step.logged", subject=f"step:{step.pk}")
    assert not told_of.exists()  # its beginning was told by the task
    with django_capture_on_commit_callbacks(execute=True):
        for number in range(50):
            logs.write(step.pk, 1, f"line {number}")
    event = told_of.get()
    assert event.data == {"task": str(task.pk), "path": "0_1_1_1", "attempt": 1}
    assert (event.permission, event.owner_id) == ("deployments.view", engine.alice.user_id)
    seal_events()
    with django_capture_on_commit_callbacks(execute=True):
        logs.write(step.pk, 1, "one more")
    assert told_of.count() == 2


def test_the_page_fetches_only_what_is_new(engine: Engine, client: Client, alice: User) -> None:
    task = engine.make(L("a", told("1", "slow")))
    engine.run(task)
    step = engine.step(task, "1")
    client.force_login(alice)
    page = client.get(f"/tasks/{task.pk}/").content.decode()
    assert "told to be slow" in page
    last = StepLog.objects.filter(step=step).latest("id").pk
    url = f"/tasks/{task.pk}/steps/0_1_1_1/log/"
    asks = f'hx-get="{url}?after={last}" hx-target="this" hx-swap="outerHTML" '
    assert f'{asks}hx-trigger="live:step:{step.pk} from:body' in page
    nothing = client.get(url, {"after": last}, **HTMX).content.decode()
    assert nothing.count("<li") == 1
    assert asks in nothing
    logs.write(step.pk, 1, "fetched <b>alone</b>")
    new = client.get(url, {"after": last}, **HTMX).content.decode()
    assert new.count("<li") == 2
    assert "fetched &lt;b&gt;alone" in new
    assert "told to be slow" not in new
    assert f"?after={StepLog.objects.latest('id').pk}" in new
    whole = client.get(url).content.decode()
    assert "told to be slow" in whole
    assert "<html" in whole
    assert client.get(f"/tasks/{task.pk}/steps/0_1_1_9/log/").status_code == 404


def test_webhooks_get_logs_only_where_they_ask_for_them() -> None:
    assert not Webhook(kinds=[]).wants("step.logged")
    assert Webhook(kinds=[]).wants("task.changed")
    assert Webhook(kinds=["step"]).wants("step.logged")
    assert Webhook(kinds=["step.logged"]).wants("step.logged")
