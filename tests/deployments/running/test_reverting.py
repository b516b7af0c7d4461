"""Rolled back by snapshots: on simulated hosts, whose VMs keep what was on them; and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from django.db.models.functions import Now

from deployments import specs
from deployments.models import Step, Task
from deployments.running import control
from jobs.models import Job
from jobs.outcomes import Fail
from orchestrator.refusals import Conflict
from tests.deployments.running.rig import Rig, pool, rig, worker
from tests.vms.conftest import reread
from vms import verbs

if TYPE_CHECKING:
    from django.test import Client

    from jobs.claims import Claim
    from jobs.outcomes import Outcome

__all__ = ["pool", "rig", "worker"]


def snapshot(**properties: Any) -> dict[str, Any]:
    return {"name": "before", "type": "snapshot", "properties": properties}


def writes(text: str, **more: Any) -> dict[str, Any]:
    """Return a script that cannot be undone."""
    return {"name": "write", "type": "script", "properties": {"script": text, **more}}


def texts(task: Task) -> list[str]:
    rows = Step.objects.filter(task=task, block__always=False).order_by("number")
    return list(rows.values_list("text", flat=True))


def test_the_vms_go_back_to_the_snapshots_and_the_record_to_what_was(rig: Rig) -> None:
    rig.run(rig.package("1.0", writes("echo one > /srv/shop")))
    update = rig.run(rig.package("2.0", snapshot(keep=True), writes("echo two > /srv/shop")))
    rig.in_guest("echo lost > /srv/since")
    assert rig.on() == {"Shop": ("2.0", ["before", "write"])}
    seen = control.preview_of_rollback(rig.alice, update, by="snapshots")
    back = rig.back(update)
    assert back.fingerprint == seen.fingerprint
    wanted = ["Revert web-1 to the snapshot before Shop 2.0", "Wait for the guest of web-1"]
    assert texts(back) == wanted
    assert [warning.code for warning in seen.warnings] == ["data_lost"]
    story = [(note.verb, note.text) for note in back.notes.all()]
    assert ("warned", seen.warnings[0].text) in story
    assert "written on web-1 since the snapshot is lost" in seen.warnings[0].text
    assert (back.kind, back.state, rig.state(update)) == ("rollback", "pending", "done")
    rig.go(back)
    assert rig.in_guest("cat /srv/shop") == "one\n"
    assert rig.in_guest("test -e /srv/since || echo gone") == "gone\n"
    assert rig.on() == {"Shop": ("1.0", ["write"])}
    assert reread(rig.vm).state == "running"


def test_one_that_failed_goes_back_whole_and_drops_the_snapshot(rig: Rig) -> None:
    broken = writes("echo half > /srv/shop && false")
    task = rig.run(rig.package("1.0", snapshot(), broken), until="failed")
    assert rig.in_guest("cat /srv/shop") == "half\n"
    back = rig.back(task)
    assert rig.on() == {}  # it was cancelled; of what it did nothing had reached its end
    assert texts(back)[-1] == "Drop the snapshot before Shop 1.0 of web-1"
    rig.go(back)
    assert rig.in_guest("test -e /srv/shop || echo gone") == "gone\n"
    assert not rig.vm.snapshots.exists()
    assert rig.on() == {}


def test_it_says_why_there_is_no_way_back_by_snapshots(rig: Rig) -> None:
    def refused(task: Task, match: str) -> None:
        with pytest.raises(Conflict, match=match):
            control.preview_of_rollback(rig.alice, task, by="snapshots")
        with pytest.raises(Conflict, match=match):
            rig.back(task)
        assert rig.state(task) == "executed"

    plain = rig.run(rig.package("1.0", writes("true")))
    refused(plain, "took no snapshot of web-1 before it changed something")
    dropped = rig.run(rig.package("2.0", snapshot(), writes("echo two")))
    refused(dropped, "The snapshot of web-1 is not there any more: it was dropped")
    # One that comes after a change does not take that back.
    late = rig.run(rig.package("3.0", writes("echo three", order=0), snapshot(keep=True)))
    refused(late, "took no snapshot of web-1 before it changed something")
    kept = rig.run(rig.package("4.0", snapshot(keep=True), writes("echo four")))
    other = {"name": "other", "type": "script", "properties": {"script": "true"}}
    rig.run(rig.package("1.0", other, name="Wiki"))
    refused(kept, "Another task, Deploy Wiki 1.0 on Staging, has changed web-1")
    only = rig.run(rig.package("5.0", snapshot(keep=True), writes("echo four")))
    refused(only, "has changed no VM yet")


def test_it_is_looked_at_again_when_it_starts_and_when_it_reverts(rig: Rig) -> None:
    task = rig.run(rig.package("1.0", snapshot(keep=True), writes("echo one")))
    back = rig.back(task)
    other = {"name": "other", "type": "script", "properties": {"script": "true"}}
    wiki = rig.run(rig.package("1.0", other, name="Wiki"))
    with pytest.raises(Conflict, match=r"Another task, Deploy Wiki 1\.0 on Staging"):
        control.start(rig.alice, back)
    Step.objects.filter(task=wiki).update(started_at=None, ended_at=Now())
    rig.vm.snapshots.update(host_snapshot_id="{gone}")
    Step.objects.filter(task=task, kind="vm.snapshot").update(result={"snapshot": "{gone}"})
    found = rig.go(back, until="failed")
    assert "web-1 does not have the snapshot before Shop 1.0 any more" in found.reason
    assert rig.on()["Shop"][0] == "1.0"


def test_page_and_api_show_both_ways_before_one_is_chosen(rig: Rig, client: Client) -> None:
    task = rig.run(rig.package("1.0", snapshot(keep=True), writes("echo one", undo="rm /x")))
    client.force_login(rig.alice.user)  # type: ignore[arg-type]
    base = f"/api/v2/tasks/{task.pk}/rollback/"
    seen = {}
    for by in ("steps", "snapshots"):
        answer = client.post(f"{base}preview/", {"by": by}, content_type="application/json")
        assert answer.status_code == 200, answer.content
        seen[by] = [step["text"] for step in answer.json()["plan"]["steps"]]
    assert "Undo write on web-1" in seen["steps"]
    assert seen["snapshots"][0] == "Revert web-1 to the snapshot before Shop 1.0"
    page = client.get(f"/tasks/{task.pk}/rollback/").content.decode()
    for text in ("Undo write on web-1", "Revert web-1 to", "since the snapshot is lost"):
        assert text in page
    rig.vm.snapshots.all().delete()
    page = client.get(f"/tasks/{task.pk}/rollback/").content.decode()
    assert "Not possible here: The snapshot of web-1 is not there any more" in page
    refused = client.post(base, {"by": "snapshots"}, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (409, "snapshot_gone")
    told = client.post(f"/tasks/{task.pk}/rollback/", {"by": "snapshots"})
    assert told.status_code == 409
    assert "is not there any more" in told.content.decode()
    made = client.post(f"/tasks/{task.pk}/rollback/", {"by": "steps"})
    assert made.headers["Location"] == f"/tasks/{Task.objects.get(rollback_of=task).pk}/"


QUIET = {
    "quiesce": True,
    "freeze": "echo held > /srv/held",
    "thaw": "rm -f /srv/held\necho on > /srv/on",
}
LOOK = "cat /srv/held ; cat /srv/on ; true"


def test_a_quiesced_snapshot_is_taken_between_freeze_and_thaw(rig: Rig) -> None:
    task = rig.run(rig.package("1.0", snapshot(keep=True, **QUIET), writes("echo one")))
    step = Step.objects.get(task=task, kind="vm.snapshot")
    assert (step.attempt, step.reason) == (1, "Taken of a quiet guest.")
    assert rig.in_guest(LOOK) == "on\n"
    rig.go(rig.back(task))
    assert rig.in_guest(LOOK) == "held\n"


def test_the_guest_goes_on_when_no_snapshot_came_and_is_not_asked_when_it_is_stopped(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(handler: object, claim: Claim, *things: object) -> Outcome:
        return Fail("The host has no room.")

    with monkeypatch.context() as broken:
        broken.setattr(verbs.snapshots.TakeHandler, "step_send", send)
        task = rig.run(rig.package("1.0", snapshot(**QUIET)), until="failed")
    assert "No snapshot was taken: The host has no room." in task.reason
    assert rig.in_guest(LOOK) == "on\n"
    with monkeypatch.context() as busy:
        busy.setattr(verbs.snapshots, "take", Mock(side_effect=Conflict("Work is under way.")))
        assert "No snapshot was taken: Work is under way." in rig.go(task, until="failed").reason
    commands = Job.objects.filter(kind="vm.execute", payload__source="deployments")
    assert commands.count() == 4  # freeze and thaw, twice
    rig.go(task)  # tried again, as a whole
    rig.worker.finish(verbs.stop(rig.alice, reread(rig.vm), force=True))
    task = rig.run(rig.package("2.0", snapshot(**QUIET)))
    taking = Step.objects.get(task=task, action__do="take")
    assert taking.lines.filter(text__contains="its guest writes nothing").exists()
    # Without words of one's own the guest writes to its disks what it holds back.
    plan = specs.prepare(
        actor=rig.alice,
        environment=rig.environment,
        package=rig.package("3.0", snapshot(quiesce=True)),
    ).plan
    assert plan.steps[0].action["freeze"] == "sync"
