"""Types that act on VMs from outside: VMs themselves, their state, snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deployments.planning import Operation, Step
from deployments.schemas import Field
from deployments.types.base import (
    CREATE_RESOURCES,
    DESTROY_RESOURCES,
    HOST,
    SNAPSHOT_FIRST,
    SNAPSHOT_LAST,
    START,
    STOP,
    VM,
    Change,
    DeployableType,
    reached,
    removed,
)

FLUSH = "sync"  # the guest writes to its disks what it holds back
HARDWARE = ("cpus", "memory_mib", "disk_gib")
REPLACING = ("template_id", "vm_name")


def is_replaced(change: Change) -> bool:
    """Return whether a changed VM is deleted and made anew: from another template, or by force."""
    return change.operation is Operation.MODIFY and (
        change.forced or change.changes(*REPLACING) or not change.created_vm
    )


def make(change: Change) -> Iterable[Step]:
    new, name = change.new, change.new["vm_name"]
    made: dict[str, Any] = {"created": [change.deployed, change.path]}
    # From its creation on the VM is there, whatever fails after: a rollback has to delete it.
    return (
        reached(
            Operation.CREATE,
            change.step(
                CREATE_RESOURCES,
                f"Create {name} from {new['template']} on {change.container.name}",
                "vm.create",
                template=new["template_id"],
                name=name,
                deployed=[change.deployed, change.path],
                tags=list(new.get("vm_tags", [])),
                lease_seconds=new.get("lease_seconds"),
                **{size: new.get(size) for size in HARDWARE},
            ),
        ),
        change.step(
            CREATE_RESOURCES + 1,
            f"Wait until {name} exists",
            "vm.wait",
            container=made,
            deadline_seconds=new["deadline_seconds"],
            **{"for": "exists"},
        ),
        *switched_on(change, made),
    )


def switched_on(change: Change, container: dict[str, Any]) -> Iterable[Step]:
    name = change.new["vm_name"]
    return (
        change.step(START, f"Start {name}", "vm.start", container=container),
        change.step(
            START + 1,
            f"Wait for the guest of {name}",
            "vm.wait",
            container=container,
            deadline_seconds=change.new["deadline_seconds"],
            **{"for": "agent"},
        ),
    )


def stop(change: Change) -> Step:
    return change.step(
        STOP,
        f"Stop {change.old['vm_name']}",
        "vm.stop",
        container={"vm": change.created_vm},
        grace_seconds=change.old["grace_seconds"],
        force=True,
    )


def delete(change: Change) -> Iterable[Step]:
    if not change.created_vm:  # it never came to be, or somebody deleted it
        return ()
    name = change.old["vm_name"]
    return (
        stop(change),
        change.step(
            DESTROY_RESOURCES,
            f"Delete {name} and wait until it is gone",
            "vm.delete",
            container={"vm": change.created_vm},
        ),
    )


def remake(change: Change) -> Iterable[Step]:
    """Change the hardware of a stopped VM, or delete it and make it anew."""
    if is_replaced(change):
        gone = [*delete(change)]
        return (*gone[:-1], *(removed(step) for step in gone[-1:]), *make(change))
    if not change.changes(*HARDWARE):
        return ()  # tags and lease are those of VMs made from now on
    vm = {"vm": change.created_vm}
    return (
        stop(change),
        change.step(
            CREATE_RESOURCES + 2,
            f"Reconfigure {change.new['vm_name']}",
            "vm.reconfigure",
            container=vm,
            **{size: change.new.get(size) for size in HARDWARE if change.changes(size)},
        ),
        *switched_on(change, vm),
    )


MACHINE = DeployableType(
    "vm",
    "VM from a template",
    frozenset({HOST}),
    {
        "template": Field("text", "Name of the template", required=True),
        "vm_name": Field("text", "Name of the VM", default="{{deployed.name}}-{{container.name}}"),
        "cpus": Field("integer", "CPUs", least=1, most=512),
        "memory_mib": Field("integer", "Memory (MiB)", least=1),
        "disk_gib": Field("integer", "Disk (GiB)", least=1),
        "vm_tags": Field("list", "Tags of the VM", most=50),
        "lease_seconds": Field("integer", "Lease", least=1),
        "grace_seconds": Field("integer", "Time to stop before force", default=60, most=3600),
        "deadline_seconds": Field("integer", "Ready by then", default=900, least=1, most=86_400),
    },
    create=make,
    modify=remake,
    destroy=delete,
)


def into_state(change: Change, state: str) -> Step:
    name = change.container.name
    match state:
        case "running":
            return change.step(START, f"Start {name}", "vm.start")
        case "stopped":
            return change.step(STOP, f"Stop {name}", "vm.stop", grace_seconds=60, force=True)
        case _:
            return change.step(STOP, f"Suspend {name}", "vm.suspend")


def back(change: Change) -> Iterable[Step]:
    """Return it to the state that it had when this was first deployed."""
    before = change.old.get("before", "")
    if not before or before == change.old["state"]:
        return ()
    return (into_state(change, before),)


STATE = DeployableType(
    "state",
    "State of the VM",
    frozenset({VM}),
    {"state": Field("choice", "State", required=True, choices=("running", "stopped", "suspended"))},
    create=lambda change: (into_state(change, change.new["state"]),),
    modify=lambda change: (into_state(change, change.new["state"]),),
    destroy=back,
)


def snapshot(change: Change) -> Iterable[Step]:
    """Take one before all else; drop it after all else, unless it is kept."""
    wanted = change.new or change.old
    name, on = wanted["snapshot"], change.container.name
    quiet = {}
    if wanted.get("quiesce"):
        quiet = {"freeze": wanted.get("freeze") or FLUSH, "thaw": wanted.get("thaw") or None}
    text = f"Take the snapshot {name} of {on}" + (", its guest quiet" if quiet else "")
    take = change.step(SNAPSHOT_FIRST, text, "vm.snapshot", do="take", name=name, **quiet)
    if wanted["keep"]:
        return (take,)
    drop = change.step(
        SNAPSHOT_LAST, f"Drop the snapshot {name} of {on}", "vm.snapshot", do="drop", name=name
    )
    return (take, drop)


SNAPSHOT = DeployableType(
    "snapshot",
    "Snapshot around the deployment",
    frozenset({VM}),
    {
        "snapshot": Field(
            "text", "Its name", default="before {{application.name}} {{application.version}}"
        ),
        "keep": Field("flag", "Keep it afterwards", default=False),
        "quiesce": Field("flag", "Of a quiet guest", default=False),
        "freeze": Field("lines", f"Commands that make it quiet; without: {FLUSH}"),
        "thaw": Field("lines", "Commands that let it go on"),
    },
    create=snapshot,
    modify=snapshot,
    destroy=snapshot,
)
