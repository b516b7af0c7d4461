"""Options, shared folders and devices of a VM: what its host does of them, and who may."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent
from accounts.tokens import create_token
from hosts.drivers.base import SharedFolder
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden, Invalid
from vms import grants, verbs
from vms.configuration import OPTIONS, FolderWish, Wish
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from accounts.actors import Actor
    from hosts.drivers.base import Configuration
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores

SRC = FolderWish(path="/Users/Shared/src", writable=True)


def reread(vm: VirtualMachine) -> VirtualMachine:
    return VirtualMachine.objects.select_related("host", "template").get(pk=vm.pk)


@pytest.fixture
def vm(pool: Pool, worker: Worker) -> VirtualMachine:
    """A stopped VM of Bob's."""
    made = pool.ask(name="mine", start=False)
    worker.finish(made.create_job)
    return reread(made)


def on_host(vm: VirtualMachine) -> Configuration:
    """Return how the simulated host shows it."""
    from hosts.calls import driver_of

    at = vm.placements.get(current=True)
    with driver_of(at.host) as driver:
        return driver.configuration(at.host_vm_id)


def done(worker: Worker, job: Job) -> Job:
    job = worker.finish(job)
    assert job.state == "done", job.error
    return job


def test_options_are_set_on_the_host_and_kept(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    wish = Wish(
        options={
            "startup-view": "headless",
            "autostart-delay": "30",
            "rosetta-linux": "on",
            "cpu-type": "arm",
            "time-sync": "off",
            "time-sync-interval": "90",
            "disable-timezone-sync": "on",
            "device-bootorder": "cdrom0 hdd0",
            "efi-secure-boot": "on",
            "videosize": "64",
            "description": "of the CI",
        }
    )
    job = done(worker, verbs.configure(pool.bob, vm, wish, cpus=3, memory_mib=3072))
    assert job.kind == "vm.configure"
    vm = reread(vm)
    assert (vm.cpus, vm.memory_mib, vm.disk_gib) == (3, 3072, 64)
    shown = on_host(vm)
    for name, value in wish.options.items():
        assert shown.options[name] == vm.configuration["options"][name] == value, name
    assert shown.options["nested-virt"] == vm.configuration["options"]["nested-virt"] == "off"
    told = AuditEvent.objects.get(action="vm.configure_requested").data
    assert told["after"]["cpus"] == 3
    assert told["before"]["cpus"] == 2
    assert told["before"]["options"]["startup-view"] is None
    assert told["after"]["options"]["startup-view"] == "headless"
    again = done(worker, verbs.configure(pool.bob, vm, wish))  # nothing is left to be sent
    assert again.message == "Done."


def test_every_option_is_known_to_the_simulated_host(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    """The two tables of flags were written apart from each other."""
    values = ("on", "suspend", "close", "parallels", "low", "x86", "hdd0", "off", "headless", "7")
    wanted = {
        name: next(value for value in values if option.takes(value))
        for name, option in OPTIONS.items()
    }
    done(worker, verbs.configure(pool.bob, vm, Wish(options=wanted)))
    assert dict(on_host(vm).options) == wanted


def test_some_options_need_a_stopped_vm_and_the_others_do_not(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    done(worker, verbs.start(pool.bob, vm))
    vm = reread(vm)
    for name, value in {"rosetta-linux": "on", "pause-idle": "on", "cpu-type": "arm"}.items():
        with pytest.raises(Conflict, match="stopped"):
            verbs.configure(pool.bob, vm, Wish(options={name: value}))
    with pytest.raises(Conflict, match="stopped"):
        verbs.configure(pool.bob, vm, Wish(options={"time-sync": "off"}), cpus=1)
    wish = Wish(
        options={"time-sync": "off", "efi-secure-boot": "on"},
        devices={"net0": False, "cdrom0": False},
        actions=["install-tools", "reset-uptime"],
    )
    done(worker, verbs.configure(pool.bob, vm, wish))
    shown = on_host(vm)
    assert (shown.options["time-sync"], shown.options["efi-secure-boot"]) == ("off", "on")
    assert (shown.devices["net0"], shown.devices["cdrom0"]) == (False, False)
    done(worker, verbs.configure(pool.bob, reread(vm), Wish(devices={"net0": True})))
    assert on_host(vm).devices == reread(vm).configuration["devices"]
    assert on_host(vm).devices["net0"] is True


@pytest.mark.parametrize(
    "wish",
    [
        Wish(options={"sync-ssh-ids": "on"}),
        Wish(options={"shf-host-add": "x"}),
        Wish(options={"startup-view": "headless; rm -rf /"}),
        Wish(options={"description": "$(reboot)"}),
        Wish(options={"description": "--force"}),
        Wish(options={"autostart-delay": "-1"}),
        Wish(options={"autostart-delay": "٣"}),
        Wish(options={"autostart-delay": "9" * 5000}),
        Wish(options={"device-bootorder": "hdd0 --force"}),
        Wish(devices={"cdrom0": True}),
        Wish(devices={"hdd0": False}),
        Wish(devices={"usb": True}),
        Wish(actions=["archive"]),
        Wish(folders={"": SRC}),
        Wish(folders={"--path": SRC}),
        Wish(folders={"src": FolderWish()}),
        Wish(folders={"src": FolderWish(path="relative")}),
        Wish(folders={"src": FolderWish(path="/Users/Shared/../ci")}),
        Wish(folders={"src": FolderWish(path="/Users/Shared/")}),
        Wish(folders={"src": FolderWish(path="//Users")}),
        Wish(folders={"src": FolderWish(path="/")}),
        Wish(folders={"src": FolderWish(path="/Users/`id`")}),
        Wish(folders={"src": FolderWish(path="/Users/Shared/src", description="a\nb")}),
        Wish(folders={f"f{number}": SRC for number in range(51)}),
        Wish(),
    ],
)
def test_what_is_not_on_the_list_is_refused(
    pool: Pool, vm: VirtualMachine, wish: Wish, settings: Any
) -> None:
    settings.SHARED_FOLDER_PATHS = ["/Users/Shared"]
    with pytest.raises(Invalid):
        verbs.configure(pool.alice, vm, wish)


def test_a_shared_folder_takes_the_right_over_hosts_or_an_allowed_path(
    pool: Pool, worker: Worker, vm: VirtualMachine, settings: Any
) -> None:
    for folders in ({"src": SRC}, {"src": FolderWish(path="/etc", enabled=False)}):
        with pytest.raises(Forbidden, match="SHARED_FOLDER_PATHS"):
            verbs.configure(pool.bob, vm, Wish(folders=dict(folders)))
    done(worker, verbs.configure(pool.alice, vm, Wish(folders={"src": SRC})))
    vm = reread(vm)
    assert on_host(vm).folders == {"src": SharedFolder("/Users/Shared/src", writable=True)}
    assert vm.configuration["folders"]["src"] == asdict(on_host(vm).folders["src"])
    # He may switch off and take away what shows him less, and nothing else of it.
    for change in (
        FolderWish(writable=False),
        FolderWish(enabled=False, path="/Users/Shared"),
        FolderWish(enabled=False, description="his"),
    ):
        with pytest.raises(Forbidden):
            verbs.configure(pool.bob, vm, Wish(folders={"src": change}))
    done(worker, verbs.configure(pool.bob, vm, Wish(folders={"src": FolderWish(enabled=False)})))
    vm = reread(vm)
    assert on_host(vm).folders["src"].enabled is False
    with pytest.raises(Forbidden):
        verbs.configure(pool.bob, vm, Wish(folders={"src": FolderWish(enabled=True)}))
    # Below an allowed path whoever uses the VM shares; a path that begins alike is not below it.
    settings.SHARED_FOLDER_PATHS = ["/Users/Shared/src/"]
    with pytest.raises(Forbidden):
        other = FolderWish(path="/Users/Shared/srcs")
        verbs.configure(pool.bob, vm, Wish(folders={"other": other}))
    wish = Wish(
        folders={
            "src": FolderWish(enabled=True, writable=False, description="Sources"),
            "deep": FolderWish(path="/Users/Shared/src/a b/c"),
        }
    )
    done(worker, verbs.configure(pool.bob, vm, wish))
    assert on_host(vm).folders == {
        "src": SharedFolder("/Users/Shared/src", writable=False, description="Sources"),
        "deep": SharedFolder("/Users/Shared/src/a b/c", writable=False),
    }
    settings.SHARED_FOLDER_PATHS = []
    done(worker, verbs.configure(pool.bob, reread(vm), Wish(folders={"src": None, "no": None})))
    assert list(on_host(vm).folders) == list(reread(vm).configuration["folders"]) == ["deep"]


def test_a_clone_has_what_its_source_had(pool: Pool, worker: Worker, vm: VirtualMachine) -> None:
    wish = Wish(options={"pause-idle": "on"}, folders={"src": SRC})
    done(worker, verbs.configure(pool.alice, vm, wish))
    made = verbs.clone(pool.bob, reread(vm), name="copy", start=False)
    worker.finish(made.create_job)
    made = reread(made)
    assert on_host(made).options["pause-idle"] == "on"
    assert made.configuration == reread(vm).configuration


def test_a_host_that_says_no_keeps_what_it_did_before(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    """The VM was started on its host by hand: one option is refused there, the other was not."""
    at = vm.placements.get(current=True)
    wish = Wish(options={"pause-idle": "on", "time-sync": "off"})
    job = verbs.configure(pool.alice, vm, wish)
    number = pool.hosts.index(at.host) + 1
    pool.simulation.control(number, vms=[{"name": at.host_name, "state": "running"}])
    worker.finish(job)
    assert job.state == "failed"
    assert "not stopped" in job.error
    vm = reread(vm)
    assert on_host(vm).options["time-sync"] == vm.configuration["options"]["time-sync"] == "off"
    assert vm.configuration["options"]["pause-idle"] == "off"


def test_a_configuration_is_not_sent_again_by_the_next_worker(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    """One died after the host had done it: the next one looks, and finds it done."""
    from hosts.calls import driver_of
    from hosts.drivers.base import Changes

    at = vm.placements.get(current=True)
    job = verbs.configure(pool.alice, vm, Wish(folders={"src": SRC}))
    with driver_of(at.host) as driver:
        driver.change(at.host_vm_id, Changes(added_folders={"src": SharedFolder(**asdict_of(SRC))}))
    assert done(worker, job).message == "Done."  # to add it twice the host would have refused
    assert list(reread(vm).configuration["folders"]) == ["src"]


def asdict_of(wish: FolderWish) -> dict[str, Any]:
    return {name: value for name, value in asdict(wish).items() if value is not None}


def test_a_revoked_grant_leaves_only_what_takes_away(
    pool: Pool, worker: Worker, vm: VirtualMachine
) -> None:
    done(worker, verbs.configure(pool.alice, vm, Wish(folders={"src": SRC})))
    assert pool.grant
    grants.revoke_grant(pool.alice, pool.grant)
    vm = reread(vm)
    for wish in (Wish(options={"time-sync": "off"}), Wish(devices={"net0": True})):
        with pytest.raises(Forbidden) as refusal:
            verbs.configure(pool.bob, vm, wish)
        assert refusal.value.code == "grant_revoked"
    taken = Wish(folders={"src": None}, devices={"net0": False})
    done(worker, verbs.configure(pool.bob, vm, taken))
    assert not on_host(vm).folders


def test_over_the_api(pool: Pool, worker: Worker, vm: VirtualMachine) -> None:
    client, url = _api(pool.bob), f"/api/v2/vms/{vm.pk}/"
    asked = {"options": {"startup-view": "headless"}, "devices": {"net0": False}, "cpus": 3}
    answer = client.post(f"{url}configure/", asked, content_type="application/json")
    assert answer.status_code == 202, answer.content
    worker.finish(Job.objects.get(pk=answer.json()["id"]))
    told = client.get(url).json()
    assert (told["cpus"], told["configuration"]["devices"]["net0"]) == (3, False)
    assert told["configuration"]["options"]["startup-view"] == "headless"
    shared = {"folders": [{"name": "src", "path": "/Users/Shared/src", "writable": True}]}
    refused = client.post(f"{url}configure/", shared, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (403, "path_not_allowed")
    done(worker, verbs.configure(pool.alice, reread(vm), Wish(folders={"src": SRC})))
    assert client.get(url).json()["configuration"]["folders"] == {
        "src": {"path": SRC.path, "writable": True, "enabled": True, "description": ""}
    }
    taken = client.post(f"{url}configure/", {"unshared": ["src"]}, content_type="application/json")
    worker.finish(Job.objects.get(pk=taken.json()["id"]))
    assert client.get(url).json()["configuration"]["folders"] == {}
    for wrong in ({}, {"options": {"no-such": "1"}}, {"optins": {}}, {"actions": ["archive"]}):
        bad = client.post(f"{url}configure/", wrong, content_type="application/json")
        assert bad.status_code == 400, wrong


def _api(actor: Actor) -> Client:
    _token, text = create_token(actor, name="pipeline", scopes=["vms"])
    return Client(headers={"Authorization": f"Bearer {text}"})


def test_on_its_page(
    pool: Pool, worker: Worker, vm: VirtualMachine, client: Client, settings: Any
) -> None:
    settings.SHARED_FOLDER_PATHS = ["/Users/Shared"]
    assert pool.bob.user
    client.force_login(pool.bob.user)

    def path(name: str) -> str:
        return reverse(f"vms:{name}", args=[vm.pk])

    page = client.get(path("detail")).content.decode()
    assert "As its image has it" in page
    dialog = client.get(path("configure")).content.decode()
    assert "Rosetta for Linux" in dialog
    nothing = client.post(path("configure"), {})
    assert (nothing.status_code, b"nothing to change" in nothing.content) == (400, True)
    set_ = client.post(path("configure"), {"startup-view": "headless", "description": "of the CI"})
    assert set_.status_code == 303, set_.content
    worker.finish(Job.objects.filter(kind="vm.configure").latest("pk"))
    wrong = {"name": "src", "path": "/etc"}
    assert b"right to manage hosts" in client.post(path("share-folder"), wrong).content
    shared = {"name": "src", "path": "/Users/Shared/a & b", "description": "<b>"}
    assert client.post(path("share-folder"), shared).status_code == 400
    shared |= {"path": "/Users/Shared/src", "description": "Sources", "writable": "on"}
    assert client.post(path("share-folder"), shared).status_code == 303
    worker.finish(Job.objects.filter(kind="vm.configure").latest("pk"))
    page = " ".join(client.get(path("detail")).content.decode().split())
    assert "/Users/Shared/src" in page
    assert "can be written: Sources" in page
    assert '<dt class="mono">startup-view</dt><dd>headless</dd>' in page
    assert client.post(path("unshare-folder"), {"name": "src"}).status_code == 303
    worker.finish(Job.objects.filter(kind="vm.configure").latest("pk"))
    assert "/Users/Shared/src" not in client.get(path("detail")).content.decode()
