from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from events.models import Event
from events.publishing import publish
from events.sealing import seal_events
from jobs.models import Job, JobLine
from orchestrator.console.queries import first_id
from orchestrator.console.retention import retain
from orchestrator.db.ids import uuid7

pytestmark = pytest.mark.django_db


def id_from(days):
    """Return an id as it would have been made `days` ago."""
    return uuid.UUID(
        int=first_id(timezone.now() - timedelta(days=days)).int | (uuid7().int & (2**62 - 1))
    )


def job(days, state="done", **more):
    made = Job.objects.create(
        pk=id_from(days), kind="k", subject="vm:1", step="x", state=state, **more
    )
    JobLine.objects.create(job=made, text="line")
    return made


def test_ids_tell_their_time():
    now = timezone.now()
    assert first_id(now - timedelta(seconds=1)) < uuid7() < first_id(now + timedelta(seconds=5))


def test_old_finished_jobs_go_and_open_ones_stay(settings):
    settings.JOB_RETENTION_DAYS = 10
    gone, kept_open, young = job(11), job(11, "queued"), job(9)
    whole = job(12)
    part = job(11, "running", parent=whole)
    retain()
    left = set(Job.objects.values_list("pk", flat=True))
    assert left == {kept_open.pk, young.pk, whole.pk, part.pk}
    assert not JobLine.objects.filter(job_id=gone.pk).exists()


def test_old_events_go_but_the_newest_stays(settings):
    settings.EVENT_RETENTION_DAYS = 10
    for number in range(3):
        publish("x", f"vm:{number}", permission="vms.view_all")
    seal_events()
    for event in Event.objects.order_by("sequence"):
        Event.objects.filter(pk=event.pk).update(id=id_from(11))
    retain()
    assert list(Event.objects.values_list("sequence", flat=True)) == [3]
    retain()
    assert Event.objects.count() == 1
