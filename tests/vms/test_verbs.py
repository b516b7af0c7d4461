"""The other verbs of a VM, on simulated hosts over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accounts.models import AuditEvent
from hosts.models import HostCapacity
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.vms.conftest import reread
from vms import ending, grants, leases, verbs
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from typing import Any

    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@pytest.fixture
def vm(pool: Pool, worker: Worker) -> VirtualMachine:
    """A running VM of Bob's."""
    made = pool.ask(name="build-1")
    worker.finish(made.create_job)  # type: ignore[arg-type]
    return reread(made)


def on_host(pool: Pool, vm: VirtualMachine) -> dict[str, Any]:
    number = 1 + [host.pk for host in pool.hosts].index(vm.host_id)
    mark = vm.placements.get(current=True).mark
    (found,) = [one for one in pool.simulation.control(number)["vms"] if one["name"].endswith(mark)]
    return found


def charged() -> tuple[int, int, int]:
    rows = HostCapacity.objects.all()
    return (
        sum(row.cpus_charged for row in rows),
        sum(row.memory_mib_charged for row in rows),
        sum(row.disk_gib_charged for row in rows),
    )


def test_pause_and_resume(pool: Pool, worker: Worker, vm: VirtualMachine) -> None:
    assert worker.finish(verbs.pause(pool.bob, vm)).state == "done"
    assert (reread(vm).state, on_host(pool, vm)["state"]) == ("paused", "paused")
    with pytest.raises(Conflict, match="is paused; restart needs it to be running"):
        verbs.restart(pool.bob, reread(vm))
    worker.finish(verbs.resume(pool.bob, reread(vm)))
    assert (reread(vm).state, bool(reread(vm).ip_address)) == ("running", True)
    worker.finish(verbs.suspend(pool.bob, reread(vm)))
    worker.finish(verbs.resume(pool.bob, reread(vm)))
    assert reread(vm).state == "running"


def test_a_paused_vm_is_stopped_by_force_because_its_guest_cannot_answer(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    worker.finish(verbs.pause(pool.bob, vm))
    worker.finish(verbs.stop(pool.bob, reread(vm)))
    assert reread(vm).state == "stopped"


def test_restart_and_reset_end_when_it_has_an_address_again(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    for verb in (verbs.restart, verbs.reset):
        before = reread(vm).ip_address
        job = verb(pool.bob, reread(vm))
        with pytest.raises(Conflict, match="is under way on this VM"):
            verbs.reset(pool.bob, reread(vm))
        assert worker.finish(job).state == "done", job.error
        assert reread(vm).state == "running"
        assert reread(vm).ip_address not in ("", before)


def test_a_stop_is_accepted_while_it_restarts_and_wins(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    restart = verbs.restart(pool.bob, vm)
    stop = verbs.stop(pool.bob, reread(vm))
    worker.finish(stop)
    restart.refresh_from_db()
    assert (restart.state, reread(vm).state) == ("cancelled", "stopped")


def test_growing_is_charged_before_the_host_is_asked_and_shrinking_given_back_after(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    worker.finish(verbs.stop(pool.bob, vm))
    assert charged() == (2, 2048, 64)
    job = verbs.resize(pool.bob, reread(vm), cpus=4, memory_mib=1024, disk_gib=80)
    assert charged() == (4, 2048, 80)
    with pytest.raises(Conflict, match="under way"):
        verbs.start(pool.bob, reread(vm))
    assert worker.finish(job).state == "done", job.error
    assert charged() == (4, 1024, 80)
    seen = on_host(pool, vm)
    assert (seen["cpus"], seen["memory"], seen["disk"]) == (4, 1024, 80)
    assert (reread(vm).cpus, reread(vm).memory_mib, reread(vm).disk_gib) == (4, 1024, 80)
    event = AuditEvent.objects.get(action="vm.resize_requested")
    assert event.data["before"]["cpus"] == 2
    worker.finish(ending.request_delete(pool.bob, reread(vm)))
    assert charged() == (0, 0, 0)


def test_a_size_that_the_host_refuses_is_given_back_but_for_what_it_did(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    worker.finish(verbs.stop(pool.bob, vm))
    # The host refuses to grow the disk of a VM with snapshots, after it has set CPUs and memory.
    worker.finish(verbs.snapshots.take(pool.bob, reread(vm)))
    job = worker.finish(verbs.resize(pool.bob, reread(vm), cpus=3, disk_gib=100))
    assert job.state == "failed"
    assert "snapshots" in job.error
    assert charged() == (3, 2048, 64)
    assert (reread(vm).cpus, reread(vm).disk_gib) == (3, 64)


def test_a_size_without_room_or_sense_changes_nothing(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    worker.finish(verbs.stop(pool.bob, vm))
    with pytest.raises(Conflict, match="has no room"):
        verbs.resize(pool.bob, reread(vm), cpus=400)
    for size in ({"disk_gib": 10}, {"cpus": 0}, {}):
        with pytest.raises(Invalid):
            verbs.resize(pool.bob, reread(vm), **size)
    assert charged() == (2, 2048, 64)
    assert not Job.objects.open().exists()


def test_a_host_that_says_yes_and_does_nothing_is_not_asked_for_ever(
    pool: Pool, worker: Worker, vm: VirtualMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hosts.drivers.parallels import ParallelsDriver

    worker.finish(verbs.stop(pool.bob, vm))
    monkeypatch.setattr(ParallelsDriver, "configure", lambda *arguments: None)
    job = worker.finish(verbs.resize(pool.bob, reread(vm), cpus=4))
    assert (job.state, "still shows another one" in job.error) == ("failed", True)
    assert charged() == (2, 2048, 64)


def test_a_resize_whose_worker_was_lost_looks_first_and_charges_once(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    worker.finish(verbs.stop(pool.bob, vm))
    job = verbs.resize(pool.bob, reread(vm), cpus=4)
    worker.round()  # sent; the step that looks at it has not run yet, or has
    Job.objects.filter(pk=job.pk).update(state="queued", step="send", lease_until=None)
    assert worker.finish(job).state == "done"
    assert charged() == (4, 2048, 64)


def test_a_vm_has_its_new_name_here_at_once_and_on_the_host_with_its_mark(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    other = pool.ask(name="taken")
    with pytest.raises(Conflict, match="A VM named taken exists"):
        verbs.rename(pool.bob, vm, name="taken")
    assert not Job.objects.open().about(vm.subject).exists()
    job = verbs.rename(pool.bob, vm, name="golden")
    assert reread(vm).name == "golden"
    worker.finish(job)
    mark = vm.placements.get().mark
    assert on_host(pool, vm)["name"] == f"golden-{mark}" == vm.placements.get().host_name
    worker.finish(ending.request_delete(pool.bob, reread(vm)))
    worker.finish(other.create_job)  # type: ignore[arg-type]


def test_snapshots_are_taken_shown_as_a_tree_reverted_to_and_deleted(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    worker.finish(verbs.snapshots.take(pool.bob, vm, name="clean"))
    worker.finish(verbs.stop(pool.bob, reread(vm)))
    worker.finish(verbs.snapshots.take(pool.bob, reread(vm)))
    clean, second = vm.snapshots.order_by("pk")
    assert (second.name, second.parent, second.current) == ("Snapshot 2", clean, True)
    assert (clean.with_memory, second.with_memory) == (True, False)

    job = worker.finish(verbs.snapshots.revert(pool.bob, clean))
    assert job.state == "done", job.error
    assert (reread(vm).state, reread(vm).desired_state) == ("running", "running")
    assert vm.snapshots.get(current=True) == clean

    worker.finish(verbs.snapshots.delete(pool.bob, clean))
    assert vm.snapshots.get().parent is None
    worker.finish(verbs.snapshots.delete_all(pool.bob, reread(vm)))
    assert not vm.snapshots.exists()
    job = worker.finish(verbs.snapshots.revert(pool.bob, second))
    assert (job.state, job.error) == ("failed", "The host does not have this snapshot any more.")
    assert reread(vm).state == "running"


def test_a_snapshot_that_somebody_took_on_the_host_is_found_when_asked_for(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    from hosts.calls import driver_of

    with driver_of(reread(vm).host) as driver:  # type: ignore[arg-type]
        driver.take_snapshot(vm.placements.get().host_vm_id, "by hand", "")
    worker.finish(verbs.snapshots.look(pool.bob, vm))
    assert vm.snapshots.get().name == "by hand"


def test_a_clone_is_a_request_of_its_own_on_the_same_host(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    with pytest.raises(Conflict, match="clone needs it to be stopped"):
        verbs.clone(pool.bob, vm)
    worker.finish(verbs.stop(pool.bob, vm))
    worker.finish(verbs.resize(pool.bob, reread(vm), cpus=3))
    made = verbs.clone(pool.bob, reread(vm), name="copy")
    job = worker.finish(made.create_job)  # type: ignore[arg-type]
    assert job.state == "done", job.error
    copy, source = reread(made), vm.placements.get(current=True)
    placement = copy.placements.get(current=True)
    assert (copy.state, copy.host, copy.cpus) == ("running", source.host, 3)
    assert placement.image == source.image
    assert placement.mark != source.mark
    assert charged()[0] == 6
    worker.finish(ending.request_delete(pool.bob, reread(vm)))
    worker.finish(ending.request_delete(pool.bob, copy))
    assert pool.simulation.all_vm_names() == []


def test_a_grant_that_ended_lets_a_vm_calm_down_but_not_run_or_grow(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    worker.finish(verbs.snapshots.take(pool.bob, vm))
    grants.revoke_grant(pool.alice, pool.grant, running_vms="keep")  # type: ignore[arg-type]
    vm = reread(vm)
    for refused in (
        lambda: verbs.restart(pool.bob, vm),
        lambda: verbs.snapshots.take(pool.bob, vm),
        lambda: verbs.snapshots.revert(pool.bob, vm.snapshots.get()),
        lambda: leases.extend(pool.bob, vm),
    ):
        with pytest.raises(Forbidden):
            refused()
    worker.finish(verbs.pause(pool.bob, vm))
    with pytest.raises(Forbidden):
        verbs.resume(pool.bob, reread(vm))
    worker.finish(verbs.snapshots.delete_all(pool.bob, reread(vm)))
    worker.finish(verbs.stop(pool.bob, reread(vm)))
    with pytest.raises(Forbidden):
        verbs.resize(pool.bob, reread(vm), cpus=4)
    worker.finish(verbs.resize(pool.bob, reread(vm), cpus=1))
    with pytest.raises(Forbidden):
        verbs.clone(pool.bob, reread(vm))


def test_files_of_a_host_are_copied_by_those_who_manage_hosts(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    with pytest.raises(Forbidden):
        verbs.upload(pool.bob, vm, path="/etc/passwd", remote_path="/tmp/x")
    with pytest.raises(Invalid):
        verbs.upload(pool.alice, vm, path="relative", remote_path="/tmp/x")
    job = worker.finish(verbs.upload(pool.alice, vm, path="/Users/ci/a", remote_path="/tmp/a"))
    assert (job.state, job.result) == ("done", {"path": "/tmp/a"})


def test_a_command_runs_as_whom_it_says_and_a_script_by_a_shell_of_the_guest(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    def ran(**asked: Any) -> tuple[int, str]:
        job = worker.finish(verbs.execute(pool.bob, vm, **asked))
        assert job.state == "done", job.error
        return job.result["exit_code"], job.result["stdout"]

    assert ran(command="whoami") == (0, "parallels\n")
    assert ran(command="whoami", user="ci") == (0, "ci\n")
    assert ran(command="whoami ; printenv SUDO_USER", user="ci", sudo=True) == (0, "root\nci\n")
    script = "# it's a \"script\"\necho 'one $A' $A\nfalse || exit 7\necho never\n"
    assert ran(script=script, environment={"A": "b"}) == (7, "one $A b\n")
    told = AuditEvent.objects.filter(action="vm.execute_requested").order_by("pk")
    assert [event.data for event in told][2:] == [
        {"command": "whoami ; printenv SUDO_USER", "user": "ci", "sudo": True},
        {"script": script},
    ]
    for wrong, message in (
        ({"command": "a", "script": "b"}, "not both"),
        ({"command": " "}, "Give a command"),
        ({"script": "ü" * 33_000}, "65536 bytes"),
        ({"command": "a", "user": "a b"}, "without spaces"),
        ({"command": "a", "user": "-u"}, "without spaces"),
    ):
        with pytest.raises(Invalid, match=message):
            verbs.execute(pool.bob, vm, **wrong)  # type: ignore[arg-type]


def test_a_script_of_a_hosts_disk_is_copied_and_run_by_those_who_manage_hosts(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    pool.simulation.control(files={"/Users/ci/setup.sh": "echo $1 and $2\ntest -f $1\n"})
    script = verbs.HostScript("/Users/ci/setup.sh", "/tmp/setup.sh", ["/tmp/setup.sh", "b c"])
    with pytest.raises(Forbidden):
        verbs.execute(pool.bob, vm, command="true", host_script=script)
    job = verbs.execute(pool.alice, vm, command="echo after", host_script=script)
    assert worker.finish(job).result == {
        "exit_code": 0,
        "stdout": "/tmp/setup.sh and b c\nafter\n",
        "stderr": "",
        "timed_out": False,
    }
    failing = verbs.HostScript("/Users/ci/setup.sh", "/tmp/setup.sh", ["absent", "x"])
    job = worker.finish(verbs.execute(pool.alice, vm, command="echo after", host_script=failing))
    assert (job.result["exit_code"], job.result["stdout"]) == (1, "absent and x\n")
    with pytest.raises(Invalid, match="whole path"):
        verbs.execute(pool.alice, vm, host_script=verbs.HostScript("relative", "/tmp/x"))
