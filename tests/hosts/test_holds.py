from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from accounts.models import AuditEvent
from events.models import Event
from hosts.holds import hold, release
from hosts.models import Host, HostHold, HostStatus, HostVM
from hosts.removal import remove
from hosts.verbs import request_inventory
from orchestrator.db.clock import database_now
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actors import Actor
    from accounts.models import User

pytestmark = [pytest.mark.django_db, pytest.mark.stores]


@pytest.fixture(autouse=True)
def _no_rooms_above(entries: Any) -> None:
    pass


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    return make_host(health="healthy")


def test_a_cordon_keeps_vms_away_until_it_ends(host: Host, admin: Actor, entries: Any) -> None:
    free: list[Host] = []
    entries("on_available", free.append)
    job = hold(admin, host, "cordon", " New disk. ")
    assert (job.kind, job.state, job.subject) == ("host.cordon", "done", f"host:{host.pk}")
    held = HostHold.objects.live().get()
    assert (held.kind, held.reason, held.by) == ("cordon", "New disk.", admin.user)
    assert not Host.objects.taking_vms().exists()
    assert list(Host.objects.polled()) == [host]
    assert not free

    job = release(admin, host, "cordon")
    assert job.kind == "host.uncordon"
    assert list(Host.objects.taking_vms()) == [host] == free
    actions = AuditEvent.objects.order_by("id").values_list("action", "data__reason")
    assert list(actions) == [("host.cordon", "New disk."), ("host.uncordon", "New disk.")]
    assert Event.objects.filter(kind="host.changed").count() == 2


def test_holding_again_replaces_the_reason(host: Host, admin: Actor) -> None:
    hold(admin, host, "cordon", "First.", until=database_now() + timedelta(hours=1))
    hold(admin, host, "cordon", "Second.")
    held = HostHold.objects.get()
    assert (held.reason, held.until) == ("Second.", None)


def test_one_hold_ends_without_another(host: Host, admin: Actor) -> None:
    hold(admin, host, "cordon", "One.")
    job = hold(admin, host, "disable", "Two.")
    assert job.kind == "host.disable" and not Host.objects.polled().exists()
    HostStatus.objects.update(next_poll_at=database_now() + timedelta(hours=1))
    assert release(admin, host, "disable").kind == "host.enable"
    assert list(Host.objects.polled()) == [host]
    assert HostStatus.objects.get().next_poll_at <= database_now()
    assert not Host.objects.taking_vms().exists()


def test_what_is_not_there_cannot_end(host: Host, admin: Actor) -> None:
    with pytest.raises(Conflict, match="not cordoned"):
        release(admin, host, "cordon")


def test_a_hold_whose_time_is_over_is_none(host: Host, admin: Actor) -> None:
    hold(admin, host, "cordon", "Short.", until=database_now() + timedelta(hours=1))
    HostHold.objects.update(until=database_now() - timedelta(seconds=1))
    assert list(Host.objects.taking_vms()) == [host]
    with pytest.raises(Conflict):
        release(admin, host, "cordon")
    hold(admin, host, "cordon", "Again.")
    assert HostHold.objects.live().get().reason == "Again."
    assert HostHold.objects.exclude(ended_at=None).count() == 1


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"kind": "nonsense"}, "kind"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 301}, "reason"),
        ({"seconds": -1}, "until"),
    ],
)
def test_bad_values(host: Host, admin: Actor, values: dict[str, Any], field: str) -> None:
    until = database_now() + timedelta(seconds=values.pop("seconds", 60))
    with pytest.raises(Invalid) as caught:
        hold(admin, host, **({"kind": "cordon", "reason": "So.", "until": until} | values))
    assert set(caught.value.errors) == {field}


def test_only_those_who_manage_hosts(
    host: Host, bob: User, actor_of: Callable[[User], Actor]
) -> None:
    actor = actor_of(bob)
    for verb in (
        lambda: hold(actor, host, "cordon", "So."),
        lambda: release(actor, host, "cordon"),
        lambda: remove(actor, host, forget_vms=True),
        lambda: request_inventory(actor, host),
    ):
        with pytest.raises(Forbidden):
            verb()


class TestRemove:
    def test_the_row_stays_without_its_secrets(
        self, host: Host, admin: Actor, entries: Any
    ) -> None:
        asked: list[tuple[Host, bool, Actor]] = []
        entries("before_removal", lambda *given: asked.append(given))
        HostVM.objects.create(host=host, host_vm_id="a", name="a", seen_at=database_now())
        hold(admin, host, "cordon", "Leaving.")
        waiting = request_inventory(admin, host)

        job = remove(admin, host, forget_vms=True)

        assert (job.kind, job.state) == ("host.remove", "done")
        assert asked == [(host, True, admin)]
        host = Host.objects.get()
        assert host.removed_at and (host.username, host.password, host.api_key) == ("", "", "")
        assert not HostHold.objects.live().exists() and not HostVM.objects.exists()
        waiting.refresh_from_db()
        assert waiting.state == "cancelling"
        assert AuditEvent.objects.get(action="host.removed").data["forget_vms"]
        assert Event.objects.filter(kind="host.removed").exists()

    def test_a_room_above_may_object(self, host: Host, admin: Actor, entries: Any) -> None:
        def object_(*_: Any) -> None:
            raise Conflict("Two VMs run there.")

        entries("before_removal", object_)
        with pytest.raises(Conflict, match="Two VMs"):
            remove(admin, host, forget_vms=False)
        assert Host.objects.present().get().api_key

    def test_once_only_and_no_holds_after_it(self, host: Host, admin: Actor) -> None:
        remove(admin, host, forget_vms=False)
        with pytest.raises(NotFound):
            remove(admin, host, forget_vms=False)
        with pytest.raises(NotFound):
            hold(admin, host, "cordon", "Too late.")
