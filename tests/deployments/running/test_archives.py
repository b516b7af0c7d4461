"""Archives in guests: unpacked, changed, taken away; and files that come in pieces."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest

from deployments import artifacts, specs
from deployments.models import Step, Task
from deployments.running import control
from deployments.running.actions import files
from hosts.drivers.base import ErrorKind, HostError
from hosts.drivers.parallels.driver import ParallelsDriver
from jobs import running
from jobs.models import Job
from orchestrator.refusals import Invalid
from tests.deployments.running.rig import Rig, pool, rig, worker
from tests.deployments.test_unpacking import tar, zipped
from vms.verbs import writing

__all__ = ["pool", "rig", "worker"]


def archive(stream: io.BytesIO, **properties: Any) -> dict[str, Any]:
    sha256 = artifacts.store(stream).sha256
    properties = {"path": "/srv/shop", **properties}
    return {"name": "web", "type": "archive", "sha256": sha256, "properties": properties}


def seen(rig: Rig, *names: str) -> list[str]:
    """Return which of these files are in the guest."""
    return [name for name in names if rig.in_guest(f"test -e /srv/shop/{name} && echo yes")]


def test_an_archive_is_unpacked_and_only_what_it_brought_goes(rig: Rig) -> None:
    rig.in_guest("echo own > /srv/shop/own")
    first = rig.run(rig.package("1.0", archive(tar("a", "lib/b", mode="w:gz"))))
    step = Step.objects.get(task=first, kind="vm.unpack")
    assert step.reason.startswith("2 files in /srv/shop, of the archive")
    assert rig.in_guest("cat /srv/shop/lib/b") == "content"
    update = rig.run(rig.package("2.0", archive(zipped(a="new", c="c"))))
    steps = Step.objects.filter(task=update, block__always=False).order_by("number")
    assert [(one.order, one.kind) for one in steps] == [
        (30, "vm.remove_unpacked"),
        (70, "vm.unpack"),
    ]
    assert seen(rig, "a", "lib/b", "c", "own") == ["a", "c", "own"]
    assert rig.in_guest("cat /srv/shop/a") == "new"
    back = control.roll_back(rig.alice, update)
    rig.go(Task.objects.get(pk=back.result["task"]))
    assert seen(rig, "a", "lib/b", "c", "own") == ["a", "lib/b", "own"]
    # Nothing of the way there is left either.
    assert rig.in_guest("test -e /srv/shop.part || test -e /srv/shop.gone || echo clean") == (
        "clean\n"
    )


def test_an_archive_that_leads_out_of_its_folder_becomes_no_package(rig: Rig) -> None:
    with pytest.raises(Invalid, match="paths stay inside its folder") as refused:
        rig.package("1.0", archive(tar("../../etc/passwd")))
    assert list(refused.value.errors) == ["deployables.0.sha256"]
    with pytest.raises(Invalid, match="no zip and no tar"):
        rig.package("1.0", archive(io.BytesIO(b"hello")))


def test_a_long_list_of_files_goes_in_pieces(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK", 100)
    names = [f"some/where/file-{number}" for number in range(20)]
    rig.run(rig.package("1.0", archive(tar(*names))))
    assert len(seen(rig, *names[:3])) == 3
    rig.run(rig.package("2.0", {**archive(tar("x")), "name": "other"}))
    assert seen(rig, *names, "x") == ["x"]


CONTENT = bytes(range(256)) * 40


def large(**properties: Any) -> dict[str, Any]:
    sha256 = artifacts.store(io.BytesIO(CONTENT)).sha256
    properties = {"path": "/srv/large.bin", **properties}
    return {"name": "large", "type": "file", "sha256": sha256, "properties": properties}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was sent in pieces of 1 KiB; the one that is in `lost` is not answered, once each."""
    found: list[str] = []
    execute = ParallelsDriver.execute

    def sending(driver: ParallelsDriver, vm: str, command: str, *rest: Any, **more: Any) -> Any:
        found.append(command)
        answer = execute(driver, vm, command, *rest, **more)
        if len(found) in lost:
            raise HostError("No answer.", ErrorKind.TIMEOUT, outcome_unknown=True)
        return answer

    lost: set[int] = {3, 11, 12, 13}  # the fourth piece, and all that ends it
    monkeypatch.setattr(files, "CHUNK", 1024)
    monkeypatch.setattr(ParallelsDriver, "execute", sending)
    monkeypatch.setattr("vms.handling.LONGEST_PAUSE", 0.01)
    return found


def test_a_piece_that_may_have_arrived_is_sent_again(rig: Rig, sent: list[str]) -> None:
    task = rig.run(rig.package("1.0", large()))
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    step = Step.objects.get(task=task, kind="vm.upload")
    assert step.reason == f"/srv/large.bin: {len(CONTENT)} bytes, SHA-256 {sha256}."
    assert len(sent) == 10 + 2 + 4
    assert sha256 in rig.in_guest("sha256sum /srv/large.bin")
    assert Job.objects.filter(kind="vm.write").count() == 1


def test_it_goes_on_where_it_was_stopped_and_begins_anew_when_that_is_gone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", 1024)
    monkeypatch.setattr(writing, "CLAIM_SECONDS", -1)  # a claim for each piece
    prepared = specs.prepare(
        actor=rig.alice, environment=rig.environment, package=rig.package("1.0", large())
    )
    task = control.create(rig.alice, prepared)
    execute, sent = ParallelsDriver.execute, []

    def aborting(driver: ParallelsDriver, vm: str, command: str, *rest: Any, **more: Any) -> Any:
        sent.append(command)
        answer = execute(driver, vm, command, *rest, **more)
        if len(sent) in (4, 7):
            control.abort(rig.alice, task)
            step = Step.objects.get(task=task, kind="vm.upload")
            running.run_job(step.job_id)  # another thread's: it cancels what is being sent
        return answer

    monkeypatch.setattr(ParallelsDriver, "execute", aborting)

    def stopped() -> int:
        control.start(rig.alice, task)
        rig.worker.until(lambda: rig.state(task) == "aborted")
        rig.worker.until(lambda: not Job.objects.open().exists())
        return int(Step.objects.get(task=task, kind="vm.upload").result["sent"])

    assert (stopped(), stopped()) == (3072, 5120)
    assert "dd of=/srv/large.bin.part bs=1024 seek=3 " in sent[4]
    rig.in_guest("rm -f /srv/large.bin.part")
    rig.go(task)
    last = Job.objects.filter(kind="vm.write").latest("id")
    assert last.payload["began_at"] == 0
    lines = Step.objects.get(task=task, kind="vm.upload").lines
    assert lines.filter(text__startswith="Goes on after 5120 bytes").exists()
    assert hashlib.sha256(CONTENT).hexdigest() in rig.in_guest("sha256sum /srv/large.bin")
