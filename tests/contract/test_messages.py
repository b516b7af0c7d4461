"""What happens, in the words of the hub's messages, to whom it may be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actors import Actor
from compat.events.messages import Translator
from events.models import Event
from tests.vms.conftest import pool, reread, worker
from vms import verbs
from vms.ending import request_delete
from vms.models import Placement

if TYPE_CHECKING:
    from accounts.models import User
    from tests.vms.conftest import Pool, Worker

__all__ = ["pool", "worker"]
pytestmark = pytest.mark.django_db
TYPES = frozenset({"pdfm", "orchestrator", "job_manager"})


class Listener:
    """Somebody who is connected from now on."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.translator = Translator()
        self.heard = set(Event.objects.values_list("pk", flat=True))

    def news(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what came since the last look: names and bodies."""
        events = list(Event.objects.exclude(pk__in=self.heard).order_by("pk"))
        self.heard |= {event.pk for event in events}
        told = self.translator.translate(self.actor, events, TYPES)
        return [(one["message"], one.get("body") or {}) for one in told]


def test_machines_their_snapshots_and_jobs(pool: Pool, worker: Worker, charlie: User) -> None:
    bob, nobody = Listener(pool.bob), Listener(Actor(user=charlie))
    vm = pool.ask()
    assert sorted(name for name, _ in bob.news()) == ["JOB_CREATED", "VM_ADDED"]
    worker.until(lambda: reread(vm).state == "running")
    names = [name for name, _ in bob.news()]
    assert {"VM_STATE_CHANGED", "HOST_VM_STATE_CHANGED", "JOB_COMPLETED"} <= set(names)
    assert "HOST_MAC_VMS_RUNNING_NOW" not in names, "it is no Mac"

    worker.finish(verbs.snapshots.take(pool.bob, reread(vm), name="clean"))
    told = dict(bob.news())
    listed = told["VM_SNAPSHOTS_UPDATED"]
    assert (listed["vm_id"], [one["name"] for one in listed["snapshots"]]) == (
        str(vm.pk),
        ["clean"],
    )
    about = told["HOST_VM_SNAPSHOTS_UPDATED"]
    assert (about["host_id"], about["event"]) == (str(reread(vm).host_id), listed)
    job = told["JOB_CREATED"]
    assert (job["id"], job["job_type"]) == (told["JOB_COMPLETED"]["id"], "machines")

    worker.finish(verbs.rename(pool.bob, reread(vm), name="renamed"))
    assert dict(bob.news())["VM_UPDATED"]["new_vm"] == {"ID": str(vm.pk), "Name": "renamed"}

    Placement.objects.filter(vm=vm).update(macos_slots=1)  # as of a macOS guest
    worker.finish(verbs.stop(pool.bob, reread(vm)))
    assert dict(bob.news())["MAC_VMS_RUNNING_NOW"] == {"mac_vms_running": []}
    worker.finish(verbs.start(pool.bob, reread(vm)))
    assert dict(bob.news())["MAC_VMS_RUNNING_NOW"] == {"mac_vms_running": [str(vm.pk)]}
    Placement.objects.filter(vm=vm).update(macos_slots=0)  # none was charged
    request_delete(pool.bob, reread(vm))
    worker.until(lambda: reread(vm).state == "deleted")
    assert "VM_REMOVED" in dict(bob.news())
    assert nobody.news() == []
