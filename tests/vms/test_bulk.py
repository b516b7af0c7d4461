"""One verb on many VMs or hosts: selection, dry run, per-item results, retry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse

from accounts import tokens
from accounts.actors import Actor
from accounts.models import AuditEvent
from hosts.models import HostHold
from jobs import batches, queueing, running
from jobs.models import BatchItem, Job
from orchestrator.refusals import Conflict
from tests.api.conftest import Api, make_token
from tests.vms.conftest import reread
from vms import bulk
from vms.models import VirtualMachine
from vms.states import State

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from tests.vms.conftest import Pool, Worker

HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def vms(pool: Pool, worker: Worker) -> list[VirtualMachine]:
    """Three running VMs of Bob's, the last one stopped again."""
    made = [pool.ask(name=f"build-{number}") for number in range(3)]
    worker.until(lambda: all(reread(vm).state == State.RUNNING for vm in made))
    made = [reread(vm) for vm in made]
    worker.finish(bulk.verbs.stop(pool.bob, made[2]))
    return [reread(vm) for vm in made]


def outcomes(batch: Job) -> dict[str, str]:
    items = BatchItem.objects.filter(batch=batch).with_outcome()
    return {item.name: item.outcome for item in items}  # type: ignore[attr-defined]


@pytest.mark.stores
def test_a_batch_acts_on_each_item_once_and_refuses_each_for_itself(
    pool: Pool, worker: Worker, vms: list[VirtualMachine]
) -> None:
    seen = batches.preview(pool.bob, "vm.stop", vms)
    assert (seen.total, seen.ready) == (3, 2)
    assert seen.refused == [batches.Refused("build-2", "It is stopped.")]
    batch = batches.request(pool.bob, "vm.stop", vms, selection=seen.selection)
    worker.finish(batch)
    assert outcomes(batch) == {"build-0": "done", "build-1": "done", "build-2": "refused"}
    assert batch.state == Job.State.DONE
    assert batch.result == {"done": 2, "refused": 1}
    assert batch.message == "2 done, 1 refused."
    assert {reread(vm).state for vm in vms} == {State.STOPPED}
    children = Job.objects.filter(parent=batch)
    assert children.count() == 2
    assert {child.actor_id for child in children} == {pool.bob.user_id}
    assert AuditEvent.objects.filter(action="vm.stop_requested").count() == 3
    refused = BatchItem.objects.get(batch=batch, name="build-2")
    assert refused.job is None
    assert "needs it to be" in refused.error


def test_what_was_not_done_can_be_asked_again(
    pool: Pool, worker: Worker, vms: list[VirtualMachine]
) -> None:
    batch = worker.finish(batches.request(pool.bob, "vm.stop", vms))
    with pytest.raises(Conflict, match="Nothing"):
        batches.retry(pool.bob, worker.finish(batches.request(pool.bob, "vm.start", vms)))
    again = worker.finish(batches.retry(pool.bob, batch))
    assert outcomes(again) == {"build-2": "done"}


def test_a_selection_that_changed_is_refused(pool: Pool, vms: list[VirtualMachine]) -> None:
    seen = batches.preview(pool.bob, "vm.stop", vms[:2])
    with pytest.raises(Conflict, match="it is 3 VMs now"):
        batches.request(pool.bob, "vm.stop", vms, selection=seen.selection)
    assert not Job.objects.filter(kind="batch").exists()


@pytest.mark.stores
def test_each_item_finds_the_rights_as_they_are_at_its_turn(
    pool: Pool, worker: Worker, vms: list[VirtualMachine]
) -> None:
    made, _ = tokens.create_token(pool.bob, name="ci", scopes=["vms"])
    batch = batches.request(Actor(user=pool.bob.user, token=made), "vm.stop", vms, at_once=1)
    running.run_job(batch.pk)
    assert sum(outcome == "waiting" for outcome in outcomes(batch).values()) == 2
    tokens.revoke_token(pool.bob, made)
    worker.finish(batch)
    assert sorted(outcomes(batch).values()) == ["done", "refused", "refused"]
    told = BatchItem.objects.filter(batch=batch, state="refused").values_list("error", flat=True)
    assert set(told) == {"This token was revoked or has expired."}


def test_no_more_items_are_under_way_at_once_than_asked(
    pool: Pool, worker: Worker, vms: list[VirtualMachine]
) -> None:
    batch = batches.request(pool.bob, "vm.delete", vms, at_once=2)
    most = 0

    def ended() -> bool:
        nonlocal most
        children = Job.objects.open().filter(parent=batch).count()
        most = max(most, children)
        batch.refresh_from_db()
        return batch.is_final

    running.run_job(batch.pk)
    worker.until(ended)
    assert most == 2
    assert set(outcomes(batch).values()) == {"done"}


@pytest.mark.stores
def test_a_cancelled_batch_drops_what_has_not_begun_and_lets_the_rest_end(
    pool: Pool, worker: Worker, vms: list[VirtualMachine]
) -> None:
    batch = batches.request(pool.bob, "vm.delete", vms, at_once=1)
    running.run_job(batch.pk)
    queueing.cancel(pool.bob, Job.objects.get(pk=batch.pk))
    worker.finish(batch)
    assert batch.state == Job.State.CANCELLED
    child = Job.objects.get(parent=batch)
    worker.finish(child)
    assert sorted(outcomes(batch).values()) == ["done", "dropped", "dropped"]
    assert VirtualMachine.objects.open().count() == 2


@pytest.mark.stores
def test_a_batch_whose_worker_died_between_items_does_no_item_twice(
    pool: Pool, worker: Worker, vms: list[VirtualMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    real = batches._act_on
    calls = 0

    def dies(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Died
        real(*arguments)

    monkeypatch.setattr(batches, "_act_on", dies)
    batch = batches.request(pool.bob, "vm.delete", vms)
    with pytest.raises(Died):
        running.run_job(batch.pk)
    monkeypatch.setattr(batches, "_act_on", real)
    Job.objects.filter(pk=batch.pk).update(state="queued", lease_until=None)  # as the sweeper does
    worker.finish(batch)
    assert set(outcomes(batch).values()) == {"done"}
    assert Job.objects.filter(kind="vm.delete").count() == 3


def test_the_api_previews_and_runs_a_batch_by_filter(
    pool: Pool, worker: Worker, vms: list[VirtualMachine], bob: User, client: Client
) -> None:
    api = Api(make_token(bob, "vms"))
    asked = {"verb": "vm.stop", "filter": {"state": ["running", "stopped"]}}
    seen = api.post("batches/preview/", asked)
    assert seen.status_code == 200, seen.json()
    assert seen.json() == {
        "verb": "vm.stop",
        "total": 3,
        "ready": 2,
        "refused": [{"name": "build-2", "reason": "It is stopped."}],
        "selection": seen.json()["selection"],
        "hits": None,
    }
    answer = api.post(
        "batches/",
        asked | {"selection": seen.json()["selection"], "options": {"force": True}},
        Idempotency_Key="once",
    )
    assert answer.status_code == 202, answer.json()
    batch = Job.objects.get(pk=answer.json()["id"])
    again = api.post(
        "batches/",
        asked | {"selection": seen.json()["selection"], "options": {"force": True}},
        Idempotency_Key="once",
    )
    assert again.headers["Idempotent-Replayed"] == "true"
    worker.finish(batch)
    assert Job.objects.filter(parent=batch, payload__force=True).count() == 2
    refused = api.get(f"jobs/{batch.pk}/items/?outcome=refused").json()["results"]
    assert [(one["name"], one["job"]) for one in refused] == [("build-2", None)]
    assert "needs it to be" in refused[0]["error"]
    retried = api.post(f"jobs/{batch.pk}/retry/")
    assert retried.status_code == 202
    worker.finish(Job.objects.get(pk=retried.json()["id"]))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"verb": "vm.fly", "filter": {}}, "Choose one of"),
        ({"verb": "vm.stop"}, "ids or a filter"),
        ({"verb": "vm.stop", "filter": {"statee": "running"}}, "no such filter"),
        ({"verb": "vm.stop", "filter": {"state": "flying"}}, "not one of"),
        ({"verb": "vm.stop", "filter": {"state": 5}}, "lists of texts"),
        ({"verb": "vm.stop", "filter": {"name": "nobody"}}, "Nothing is selected"),
        ({"verb": "vm.stop", "filter": {}, "options": {"forse": True}}, "no such field"),
        ({"verb": "vm.execute", "filter": {}}, "options"),
    ],
)
def test_a_batch_that_makes_no_sense_is_refused_with_what_to_do(
    pool: Pool, bob: User, body: dict[str, Any], word: str
) -> None:
    pool.ask()
    answer = Api(make_token(bob, "vms")).post("batches/", body)
    assert answer.status_code == 400
    assert word in answer.content.decode()
    assert not Job.objects.filter(kind="batch").exists()


def test_nobody_selects_what_they_may_not_see(pool: Pool, bob: User, charlie: User) -> None:
    vm = pool.ask()
    api = Api(make_token(charlie, "admin"))
    answer = api.post("batches/", {"verb": "vm.stop", "ids": [str(vm.pk)]})
    assert answer.status_code == 404
    mine = Api(make_token(bob, "read"))
    answer = mine.post("batches/preview/", {"verb": "vm.stop", "ids": [str(vm.pk)]})
    assert answer.json()["ready"] == 0
    assert "scope" in answer.json()["refused"][0]["reason"]


def test_many_hosts_are_cordoned_drained_and_released(pool: Pool, worker: Worker) -> None:
    options = {"reason": "New switch"}
    worker.finish(batches.request(pool.alice, "host.cordon", pool.hosts[:2], options=options))
    drain = {"reason": "New rack", "policy": "wait", "deadline": None}
    worker.finish(batches.request(pool.alice, "host.drain", pool.hosts[:1], options=drain))
    held = HostHold.objects.live().values_list("host__name", "kind", "reason")
    assert set(held) == {
        ("mac-1", "cordon", "New switch"),
        ("mac-2", "cordon", "New switch"),
        ("mac-1", "drain", "New rack"),
    }
    rows = bulk.host_verb("", queueing.cancel).noun.rows(pool.alice)
    seen = batches.preview(pool.alice, "host.uncordon", rows)
    assert seen.refused == [batches.Refused("mac-3", "It is not cordoned.")]
    batch = worker.finish(batches.request(pool.alice, "host.uncordon", rows))
    assert outcomes(batch) == {"mac-1": "done", "mac-2": "done", "mac-3": "refused"}
    assert set(HostHold.objects.live().values_list("kind", flat=True)) == {"drain"}


def test_each_host_pulls_an_image_in_its_own_architecture(pool: Pool, worker: Worker) -> None:
    batch = batches.request(
        pool.alice, "host.cache_pull", pool.hosts, options={"catalog_id": "UBUNTU"}
    )
    worker.finish(batch)
    assert set(outcomes(batch).values()) == {"done"}
    for number in (1, 2, 3):
        assert list(pool.simulation.control(number)["cache"]) == ["UBUNTU/24.04"]
    none = worker.finish(
        batches.request(
            pool.alice, "host.cache_pull", pool.hosts[:1], options={"catalog_id": "debian"}
        )
    )
    assert outcomes(none) == {"mac-1": "refused"}


def test_many_are_resized_and_kept_and_many_hosts_get_a_window(
    pool: Pool, worker: Worker, vms: list[VirtualMachine]
) -> None:
    resized = worker.finish(
        batches.request(pool.bob, "vm.resize", vms, options={"memory_mib": 3072})
    )
    assert outcomes(resized) == {"build-0": "refused", "build-1": "refused", "build-2": "done"}
    kept = worker.finish(
        batches.request(pool.bob, "vm.hold", vms[:2], options={"reason": "a look", "seconds": 60})
    )
    assert set(outcomes(kept).values()) == {"done"}
    freed = worker.finish(batches.request(pool.bob, "vm.release", vms))
    assert outcomes(freed) == {"build-0": "done", "build-1": "done", "build-2": "refused"}
    window = {"reason": "macOS 27", "until": "2099-01-01T12:00:00Z"}
    worker.finish(batches.request(pool.alice, "host.maintain", pool.hosts, options=window))
    assert HostHold.objects.live().filter(kind="maintenance").count() == 3


def test_the_page_asks_before_it_acts_on_all_that_match(
    pool: Pool, worker: Worker, vms: list[VirtualMachine], client: Client, bob: User
) -> None:
    client.force_login(bob)
    listed = client.get(reverse("vms:list")).content.decode()
    assert f'value="{vms[0].pk}" form="bulk"' in listed
    url = reverse("jobs:new-batch")
    asked = {"verb": "vm.stop", "all": "on", "query": "state=running"}
    dialog = client.get(url, asked, **HTMX)
    assert dialog.status_code == 200
    assert "Stop: 2 VMs" in dialog.content.decode()
    selection = re.findall(r'name="selection" value="(\w+)"', dialog.content.decode())[0]
    posted = client.post(url, asked | {"selection": selection, "force": "on"})
    assert posted.status_code == 303
    batch = Job.objects.get(kind="batch")
    assert posted["Location"] == reverse("jobs:job", args=[batch.pk])
    worker.finish(batch)
    page = client.get(posted["Location"]).content.decode()
    assert "2 done" in page
    assert "build-0" in page
    late = client.post(url, asked | {"selection": selection})
    assert late.status_code == 400  # none runs any more
    nothing = client.get(url, {"verb": "vm.stop"}, **HTMX)
    assert "Tick the VMs first" in nothing.content.decode()


def test_the_page_retries_what_was_not_done(
    pool: Pool, worker: Worker, vms: list[VirtualMachine], client: Client, bob: User
) -> None:
    client.force_login(bob)
    url = reverse("jobs:new-batch")
    ids = [str(vm.pk) for vm in vms]
    client.post(url, {"verb": "vm.stop", "id": ids})
    batch = Job.objects.get(kind="batch")
    worker.finish(batch)
    assert "Retry" in client.get(reverse("jobs:job", args=[batch.pk])).content.decode()
    answer = client.post(reverse("jobs:retry", args=[batch.pk]))
    assert answer.status_code == 303
    again = Job.objects.filter(kind="batch").latest("pk")
    assert BatchItem.objects.filter(batch=again).count() == 1
