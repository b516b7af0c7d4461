"""Pulling images into the caches of simulated hosts, and deleting them there."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from catalog import caching, collecting, going, images, sources
from catalog.models import HostImage
from hosts import inventory
from hosts.models import HostCapacity
from jobs import batches, queueing, running
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound
from tests.api.conftest import Api, is_problem, make_token
from tests.vms.conftest import reread
from vms import adoption, ending, grants, placement, templates
from vms.models import VirtualMachine
from vms.placement.rules import reject
from vms.placement.views import host_views, wish_of

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from hosts.models import Host
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@pytest.fixture
def host(pool: Pool) -> Host:
    return pool.hosts[0]


def cache(pool: Pool) -> list[str]:
    return list(pool.simulation.control(1)["cache"])


def pull(pool: Pool, host: Host) -> Job:
    assert pool.image
    return caching.pull(pool.alice, host, pool.image)


def test_an_image_is_pulled_and_nothing_else_is_left(
    pool: Pool, worker: Worker, host: Host
) -> None:
    job = pull(pool, host)
    assert pull(pool, host) == job
    assert worker.finish(job).state == "done", job.error
    assert (cache(pool), pool.simulation.vm_names(1)) == (["UBUNTU/24.04"], [])
    assert HostImage.objects.get(host=host).catalog_id == "UBUNTU"
    requests = pool.simulation.control(1)["requests"]
    assert worker.finish(pull(pool, host)).message.endswith("is cached already.")
    assert pool.simulation.control(1)["requests"]["create_async"] == requests["create_async"]
    made = pool.ask(pool.alice, name="quick", host=host)
    worker.finish(made.create_job)  # type: ignore[arg-type]
    assert made.placements.get().explanation["score"]["cached"] > 0


def test_a_lost_worker_asks_for_nothing_twice(pool: Pool, worker: Worker, host: Host) -> None:
    """Lost after the call was sent: the job is at its step still, and finds the host's job."""
    job = pull(pool, host)
    worker.until(lambda: "create_async" in pool.simulation.control(1)["requests"])
    Job.objects.filter(pk=job.pk).update(step="create")
    assert worker.finish(job).state == "done", job.error
    assert pool.simulation.control(1)["requests"]["create_async"] == 1
    assert pool.simulation.vm_names(1) == []


def test_a_pull_that_the_host_fails_leaves_nothing(pool: Pool, worker: Worker, host: Host) -> None:
    pool.simulation.control(1, faults={"failcreate": 1})
    job = worker.finish(pull(pool, host))
    assert (job.state, "failed to create" in job.error) == ("failed", True)
    assert (cache(pool), pool.simulation.vm_names(1)) == ([], [])


def test_what_comes_after_the_pull_was_given_up_is_swept_away(
    pool: Pool, worker: Worker, host: Host
) -> None:
    job = pull(pool, host)
    Job.objects.filter(pk=job.pk).update(state="failed")
    foreign = {"name": "precache-ubuntu-0123456789abcdef"}
    pool.simulation.control(1, vms=[{"name": job.payload["name"]}, foreign])
    inventory.refresh(host)
    row = host.listed_vms.get(name=job.payload["name"])
    with pytest.raises(Conflict, match="pull an image"):
        adoption.adopt(pool.alice, host, host_vm_id=row.host_vm_id, template=pool.template)  # type: ignore[arg-type]
    worker.until(lambda: pool.simulation.vm_names(1) == [foreign["name"]])
    worker.until(lambda: not Job.objects.open().exists())


def test_a_cancelled_pull_ends_when_its_vm_is_gone(pool: Pool, worker: Worker, host: Host) -> None:
    pool.simulation.control(1, clone_seconds=0.3)
    job = pull(pool, host)
    worker.until(lambda: Job.objects.get(pk=job.pk).step == "watch")
    queueing.cancel(pool.alice, job)
    assert worker.finish(job).state == "cancelled"
    assert pool.simulation.vm_names(1) == []


def test_a_pull_is_refused_with_a_reason(pool: Pool, host: Host) -> None:
    assert pool.image
    with pytest.raises(Forbidden):
        caching.pull(pool.bob, host, pool.image)
    HostCapacity.objects.filter(pk=host.pk).update(disk_gib_free=20)
    pool.image.pack_size_mib = 10 * 1024
    pool.image.save()
    with pytest.raises(Conflict, match="needs 30 GiB"):
        pull(pool, host)
    other = images.add_image(
        pool.alice,
        source=pool.image.source,
        catalog_id="windows",
        version="11",
        architecture="x86_64",
        type="pvm",
    )
    with pytest.raises(Conflict, match="is for x86_64"):
        caching.pull(pool.alice, host, other)
    images.set_taint(pool.alice, pool.image, True)
    with pytest.raises(Forbidden, match="tainted"):
        pull(pool, host)


def test_an_image_is_deleted_and_then_everything(pool: Pool, worker: Worker, host: Host) -> None:
    worker.finish(pull(pool, host))
    with pytest.raises(NotFound):
        caching.delete(pool.alice, host, catalog_id="ubuntu", version="22.04")
    for wrong in ({}, {"catalog_id": "ubuntu", "everything": True}, {"version": "24.04"}):
        with pytest.raises(Invalid):
            caching.delete(pool.alice, host, **wrong)  # type: ignore[arg-type]
    job = caching.delete(pool.alice, host, catalog_id="ubuntu", version="24.04")
    with pytest.raises(Conflict, match="under way"):
        pull(pool, host)
    assert worker.finish(job).state == "done", job.error
    assert (cache(pool), HostImage.objects.filter(host=host).exists()) == ([], False)
    worker.finish(pull(pool, host))
    assert worker.finish(caching.delete(pool.alice, host, everything=True)).state == "done"
    assert cache(pool) == []


@pytest.mark.parametrize("everything", [False, True])
def test_what_a_create_relies_on_is_not_deleted(
    pool: Pool, worker: Worker, host: Host, everything: bool
) -> None:
    worker.finish(pull(pool, host))
    wanted = {"everything": True} if everything else {"catalog_id": "ubuntu"}
    waiting = pool.ask(name="waiting")
    with pytest.raises(Conflict, match="waiting waits for a host") as refused:
        caching.delete(pool.alice, host, **wanted)  # type: ignore[arg-type]
    assert refused.value.code == "in_use"
    ending.request_delete(pool.bob, waiting)
    making = pool.ask(pool.alice, name="making", host=host)
    worker.until(lambda: reread(making).state == "creating")
    with pytest.raises(Conflict, match="making is being made"):
        caching.delete(pool.alice, host, **wanted)  # type: ignore[arg-type]
    worker.finish(making.create_job)  # type: ignore[arg-type]
    elsewhere = pool.ask(pool.alice, name="elsewhere", host=pool.hosts[1])
    job = caching.delete(pool.alice, host, **wanted)  # type: ignore[arg-type]
    # One that comes between the request and the call stops it, too.
    ending.request_delete(pool.alice, elsewhere)
    late = pool.ask(pool.alice, name="late", cpus=12, host=host)
    assert worker.finish(job).error.startswith("late waits")
    assert cache(pool) == ["UBUNTU/24.04"]
    ending.request_delete(pool.alice, reread(late))


def test_caches_by_page_and_api(
    pool: Pool, worker: Worker, host: Host, client: Client, alice: User, bob: User
) -> None:
    api = Api(make_token(alice))
    client.force_login(alice)
    page = reverse("hosts:detail", args=[host.pk])
    assert reverse("catalog:pull", args=[host.pk]) in client.get(page).content.decode()
    assert pool.image
    answer = client.post(reverse("catalog:pull", args=[host.pk]), {"image": pool.image.pk})
    assert (answer.status_code, answer["Location"]) == (303, page)
    worker.until(lambda: not Job.objects.open().exists())
    (row,) = api.get(f"hosts/{host.pk}/cache/").json()["results"]
    assert (row["catalog_id"], row["version"]) == ("UBUNTU", "24.04")
    dialog = f"{reverse('catalog:delete-cached', args=[host.pk])}?catalog_id=UBUNTU&version=24.04"
    assert dialog.replace("&", "&amp;") in client.get(page).content.decode()
    assert 'value="UBUNTU"' in client.get(dialog).content.decode()
    values = {"catalog_id": "UBUNTU", "version": "24.04"}
    assert client.post(dialog, values).status_code == 303
    worker.until(lambda: not Job.objects.open().exists())
    assert cache(pool) == []
    pulled = api.post(f"hosts/{host.pk}/cache/pull/", {"image": str(pool.image.pk)})
    assert (pulled.status_code, pulled.json()["kind"]) == (202, "host.cache_pull")
    worker.until(lambda: not Job.objects.open().exists())
    assert is_problem(api.post(f"hosts/{host.pk}/cache/delete/", {}), 400)
    path = f"hosts/{host.pk}/cache/delete/"
    assert is_problem(Api(make_token(bob)).post(path, {"everything": True}), 404)
    assert api.post(path, {"everything": True}).json()["kind"] == "host.cache_delete"


def test_revoking_an_image_deletes_its_copies_as_chosen(pool: Pool, worker: Worker) -> None:
    assert pool.image
    for host in pool.hosts[:2]:
        assert worker.finish(pull(pool, host)).state == "done"
    image = pool.image
    kept = images.revoke(pool.alice, image, reason="leaked")
    assert kept.result["batches"] == []
    assert HostImage.objects.count() == 2
    job = images.revoke(pool.alice, image, reason="leaked", cached_copies="delete")
    batch = Job.objects.get(pk=job.result["batches"][0])
    assert worker.finish(batch).result == {"done": 2}
    assert not HostImage.objects.exists()
    assert cache(pool) == []


def test_a_template_takes_only_the_copies_that_no_other_needs(
    pool: Pool, worker: Worker, host: Host, bob: User
) -> None:
    assert pool.image
    assert pool.template
    worker.finish(pull(pool, host))
    grants.grant_template(pool.alice, template=pool.template, user=bob, level="manage")
    with pytest.raises(Forbidden):  # Bob manages the template, and no hosts
        templates.revoke_template(pool.bob, pool.template, cached_copies="delete")
    other = templates.create_template(
        pool.alice,
        name="other",
        images=[pool.image],
        cpus=1,
        memory_mib=512,
        disk_gib=5,
        default_lease_seconds=60,
        maximum_lease_seconds=60,
    )
    job = templates.revoke_template(pool.alice, other, cached_copies="delete")
    assert job.result["batches"] == []
    waits = pool.ask(name="waits", cpus=64)
    impact = Api(make_token(pool.alice.user)).get(f"templates/{pool.template.pk}/impact/").json()
    assert [(hit["name"], hit["queued"]) for hit in impact["hits"]] == [("waits", True)]
    assert [copy["host"]["name"] for copy in impact["copies"]] == ["mac-1"]
    assert impact["copy_choices"] == ["keep", "delete"]
    bobs = Api(make_token(bob)).get(f"templates/{pool.template.pk}/impact/").json()
    assert (len(bobs["hits"]), bobs["copies"], bobs["copy_choices"]) == (1, [], ["keep"])
    job = templates.revoke_template(pool.alice, pool.template, cached_copies="delete")
    assert reread(waits).state == "cancelled"
    batch = Job.objects.get(pk=job.result["batches"][0])
    assert worker.finish(batch).result == {"done": 1}
    assert cache(pool) == []


def test_the_kill_switch_shows_all_that_is_derived(
    pool: Pool, worker: Worker, host: Host, client: Client, olga: User
) -> None:
    assert pool.image
    assert pool.template
    worker.finish(pull(pool, host))
    pool.ask(name="waits", cpus=64)
    client.force_login(pool.alice.user)
    for url in (
        reverse("catalog:revoke", args=[pool.image.pk]),
        reverse("vms:revoke-template", args=[pool.template.pk]),
    ):
        page = client.get(url).content.decode()
        assert "waits" in page
        assert 'id="copies"' in page
        assert 'name="cached_copies"' in page
    answer = client.post(
        reverse("catalog:revoke", args=[pool.image.pk]),
        {"running_vms": "keep", "cached_copies": "delete", "reason": "leaked"},
    )
    assert answer.status_code == 303
    worker.until(lambda: cache(pool) == [])


def two_cached(pool: Pool, worker: Worker, host: Host) -> None:
    """Let `host` have two images of 10 GiB each; ubuntu was used before debian."""
    assert pool.image
    worker.finish(pull(pool, host))
    debian = images.add_image(
        pool.alice,
        source=pool.image.source,
        catalog_id="debian",
        version="13",
        architecture="arm64",
        type="pvm",
    )
    worker.finish(caching.pull(pool.alice, host, debian))
    assert cache(pool) == ["UBUNTU/24.04", "DEBIAN/13"]


def test_what_is_over_a_quota_is_collected_the_least_used_first(
    pool: Pool, worker: Worker, host: Host
) -> None:
    two_cached(pool, worker, host)
    with pytest.raises(Conflict, match="no quota"):
        collecting.collect(pool.alice, host)
    with pytest.raises(Forbidden):
        collecting.set_quota(pool.bob, host, quota_mib=1)
    with pytest.raises(Invalid):
        collecting.set_quota(pool.alice, host, quota_mib=-1)
    job = collecting.set_quota(pool.alice, host, quota_mib=15 * 1024)
    # Lost between its mark and the next step: it takes the mark back, and begins anew.
    lost = Job.objects.get(pk=job.result["collect"])
    Job.objects.filter(pk=lost.pk).update(payload={"picked": [["DEBIAN", "13"]]})
    HostImage.objects.filter(catalog_id="DEBIAN").update(going_since=timezone.now())
    done = worker.finish(Job.objects.get(pk=job.result["collect"]))
    assert (done.state, done.result) == ("done", {"deleted": ["UBUNTU 24.04"]})
    assert cache(pool) == ["DEBIAN/13"]
    # Another download makes it too much again: the host's next list has it collected.
    made = pool.ask(pool.alice, name="made", host=host)
    worker.finish(made.create_job)  # type: ignore[arg-type]
    inventory.refresh(host)
    worker.until(lambda: not Job.objects.open().exists())
    assert cache(pool) == ["UBUNTU/24.04"]
    # What none may be made of goes before what was used longer ago.
    assert pool.image
    images.set_taint(pool.alice, pool.image, True)
    collecting.set_quota(pool.alice, host, quota_mib=None)
    assert collecting.in_order(host)[0].catalog_id == "UBUNTU"


def test_collecting_leaves_what_a_create_relies_on(pool: Pool, worker: Worker, host: Host) -> None:
    two_cached(pool, worker, host)
    waiting = pool.ask(name="waiting")  # pending: may be placed on any host
    job = collecting.set_quota(pool.alice, host, quota_mib=0)
    done = worker.finish(Job.objects.get(pk=job.result["collect"]))
    assert done.result == {"deleted": ["DEBIAN 13"]}
    assert "UBUNTU/24.04" in cache(pool)
    worker.finish(waiting.create_job)  # type: ignore[arg-type]
    assert reread(waiting).state == "running"


def test_a_create_waits_while_its_image_is_being_deleted(
    pool: Pool, worker: Worker, host: Host
) -> None:
    """Marked first, placed then: the create is sent only when the old copy is gone."""
    worker.finish(pull(pool, host))
    rows = HostImage.objects.filter(host=host)
    assert going.mark(host, rows) == 1
    vm = pool.ask(pool.alice, name="late", host=host)
    worker.until(lambda: reread(vm).create_job.message.startswith("Waiting until its old copy"))
    assert "It is not cached" in vm.placements.get().explanation["image"]
    assert going.mark(host, rows) == 0  # it relies on it now, and the mark that is there stays
    going.unmark(str(host.pk))
    worker.finish(vm.create_job)  # type: ignore[arg-type]
    assert reread(vm).state == "running"


def test_a_pull_keeps_to_its_time_window(pool: Pool, worker: Worker, host: Host) -> None:
    assert pool.image
    now = timezone.now()
    for wrong in ("tomorrow", now - timedelta(seconds=1)):
        with pytest.raises(Invalid):
            caching.pull(pool.alice, host, pool.image, not_after=wrong)  # type: ignore[arg-type]
    begin = now + timedelta(hours=1)
    end = (now + timedelta(hours=2)).isoformat()
    job = caching.pull(pool.alice, host, pool.image, not_before=begin, not_after=end)
    worker.until(lambda: Job.objects.get(pk=job.pk).message == "Waiting for its time window.")
    assert "create_async" not in pool.simulation.control(1)["requests"]
    assert Job.objects.get(pk=job.pk).run_after > now + timedelta(minutes=50)
    queueing.cancel(pool.alice, job)
    assert worker.finish(job).state == "cancelled"
    job = caching.pull(pool.alice, host, pool.image, not_before="", not_after=end)
    Job.objects.filter(pk=job.pk).update(payload={**job.payload, "not_after": now.timestamp() - 1})
    assert "time window ended" in worker.finish(job).error


def test_an_image_is_cached_in_advance_on_many_hosts_a_few_at_a_time(
    pool: Pool, worker: Worker
) -> None:
    options = {"catalog_id": "ubuntu", "version": "24.04"}
    batch = batches.request(pool.alice, caching.PULL, pool.hosts, options=options, at_once=1)
    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, Job.objects.open().filter(kind=caching.PULL).count())
        return Job.objects.get(pk=batch.pk).is_final

    worker.until(ended)
    batch.refresh_from_db()
    assert (batch.result, most) == ({"done": 3}, 1)
    assert HostImage.objects.count() == 3


def test_no_copy_is_marked_that_a_create_was_sent_for(
    pool: Pool, worker: Worker, host: Host
) -> None:
    """The race: placed and sent by one thread, marked for deletion by another, many times."""
    worker.finish(pull(pool, host))
    rows = HostImage.objects.filter(host=host)
    outcomes = set()
    for number in range(8):
        vm = pool.ask(pool.alice, name=f"race-{number}", cpus=1)
        VirtualMachine.objects.filter(pk=vm.pk).update(wanted_host=pool.hosts[1])
        begin = threading.Barrier(2)

        def place(vm: VirtualMachine = vm, begin: threading.Barrier = begin) -> None:
            begin.wait()
            VirtualMachine.objects.filter(pk=vm.pk).update(wanted_host=host)
            placement.place_pending()
            running.run_job(vm.create_job.pk)
            connection.close()

        def collect(number: int = number, begin: threading.Barrier = begin) -> None:
            begin.wait()
            for _ in range(number * 3):  # the later rounds mark later
                HostImage.objects.count()
            going.mark(host, rows)
            connection.close()

        threads = [threading.Thread(target=place), threading.Thread(target=collect)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        marked = rows.exclude(going_since=None).exists()
        sent = vm.placements.exclude(create_sent_at=None).exists()
        assert not (marked and sent)
        outcomes.add((marked, sent))
        going.unmark(str(host.pk))
        ending.request_delete(pool.alice, reread(vm))
        worker.until(lambda vm=vm: reread(vm).is_final)  # type: ignore[misc]
    assert (False, True) in outcomes or (True, False) in outcomes


def test_an_image_says_what_a_host_must_have_and_its_source_may_be_off(
    pool: Pool, worker: Worker
) -> None:
    assert pool.image
    images.change(pool.alice, pool.image, minimum_cpus=64)
    vm = pool.ask(name="large")
    worker.round()
    assert "wants a host with 64 CPUs" in rejection_of(vm, pool.hosts[0])
    images.change(pool.alice, pool.image, minimum_cpus=2)
    sources.change_source(pool.alice, pool.image.source, active=False)
    worker.round()
    assert reread(vm).state == "cancelled"  # as when its image had been tainted
    with pytest.raises(Forbidden):
        pool.ask(name="another")
    sources.change_source(pool.alice, pool.image.source, active=True)
    again = pool.ask(name="again")
    worker.finish(again.create_job)  # type: ignore[arg-type]
    assert reread(again).state == "running"


def rejection_of(vm: VirtualMachine, host: Host) -> str:
    """Return why `host` does not take `vm` now."""
    view = host_views(host_id=host.pk)[0]
    rejection = reject(wish_of(vm), view)
    return rejection.detail if rejection else ""
