from __future__ import annotations

import pytest

from accounts.actors import Actor
from jobs import handlers, queueing
from jobs.models import Job, JobLine

pytestmark = pytest.mark.django_db


class Cancellable(handlers.Handler):
    first = "begin"
    cancellable = True


@pytest.fixture(autouse=True)
def kind(monkeypatch):
    monkeypatch.setitem(handlers._handlers, "test.work", Cancellable())


@pytest.fixture
def job(bob):
    job = queueing.enqueue("test.work", "thing:1", Actor(bob), message="Looking for a host.")
    JobLine.objects.create(job=job, text="It began <here>.")
    return job


def test_the_page_shows_where_it_stands(as_, bob, job):
    page = as_(bob).get(f"/jobs/{job.pk}/").content.decode()
    assert "Looking for a host." in page
    assert "It began &lt;here&gt;." in page
    assert f"live:job:{job.pk} from:body" in page
    assert "Cancel job" in page


def test_cancelling_by_form_and_by_htmx(as_, bob, job):
    client = as_(bob)
    answer = client.post(f"/jobs/{job.pk}/cancel/")
    assert (answer.status_code, answer.url) == (303, f"/jobs/{job.pk}/")
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLING
    here = {"HX-Request": "true", "HX-Current-URL": f"http://testserver/jobs/{job.pk}/"}
    again = client.post(f"/jobs/{job.pk}/cancel/", headers=here)
    assert again.status_code == 409
    assert b'hx-target="#toasts"' in again.content
    assert b"has ended already" in again.content


def test_a_refusal_without_script_is_a_page_with_its_sentence(as_, bob, job):
    Job.objects.filter(pk=job.pk).update(state="done")
    answer = as_(bob).post(f"/jobs/{job.pk}/cancel/")
    assert answer.status_code == 409
    assert b"This job has ended already." in answer.content
    assert b"<html" in answer.content


def test_other_peoples_jobs_are_not_there(as_, charlie, job):
    client = as_(charlie)
    assert client.get(f"/jobs/{job.pk}/").status_code == 404
    assert client.post(f"/jobs/{job.pk}/cancel/").status_code == 404
    assert str(job.pk) not in client.get("/jobs/").content.decode()


def test_the_list_is_narrowed_and_paged(as_, alice, bob, job, monkeypatch):
    for number in range(3):
        Job.objects.create(
            kind="test.work", subject=f"thing:{number}", step="x", actor=bob, state="done"
        )
    client = as_(alice)
    assert client.get("/jobs/?state=open").content.decode().count('<tr id="job-') == 1
    assert client.get("/jobs/?state=done&kind=test.work").content.decode().count("<tr id") == 3
    assert client.get("/jobs/?q=Looking").content.decode().count("<tr id") == 1
    monkeypatch.setattr("orchestrator.web.pages.newest_first.__defaults__", (2,))
    first = client.get("/jobs/")
    older = first.context["slice"].older
    second = client.get(f"/jobs/?before={older}")
    ids = [row.pk for answer in (first, second) for row in answer.context["slice"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 4
    assert client.get("/jobs/?before=nonsense").status_code == 404


def test_the_output_of_a_command_is_shown_as_text(as_, bob, job):
    Job.objects.filter(pk=job.pk).update(
        state="done", result={"exit_code": 3, "stdout": "<b>hi</b>", "stderr": ""}
    )
    page = as_(bob).get(f"/jobs/{job.pk}/").content.decode()
    assert "&lt;b&gt;hi&lt;/b&gt;" in page
    assert "Exit code" in page
