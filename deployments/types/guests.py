"""Types that act inside a running guest: files, archives, scripts, services, configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deployments import unpacking
from deployments.planning import Step
from deployments.schemas import Field
from deployments.types.base import (
    CREATE_RESOURCES,
    DEPLOY,
    DESTROY_RESOURCES,
    START_ARTIFACTS,
    STOP_ARTIFACTS,
    UNDEPLOY,
    VM,
    Change,
    DeployableType,
    removed,
)

ON_VM = frozenset({VM})
RESTART = Field("flag", "Restart the VM when this changes", default=False)
ORDER = {"least": 0, "most": 100}


def upload(change: Change) -> Step:
    value = change.value
    assert value is not None
    return change.step(
        DEPLOY,
        f"Upload {change.deployed} to {change.new['path']} on {change.container.name}",
        "vm.upload",
        path=change.new["path"],
        sha256=value.artifact,
        mode=change.new.get("mode"),
        placeholders=change.new.get("replaced") or None,
    )


def remove(change: Change) -> Step:
    path = change.old["path"]
    text = f"Remove {change.deployed} ({path}) from {change.container.name}"
    return change.step(UNDEPLOY, text, "vm.remove_file", path=path)


FILE = DeployableType(
    "file",
    "File",
    ON_VM,
    {
        "path": Field("path", "Where it lies in the guest", required=True),
        "mode": Field("text", "Mode, such as 0644"),
        "placeholders": Field("flag", "Replace placeholders in it", default=False),
        "restart": RESTART,
    },
    create=lambda change: (upload(change),),
    modify=lambda change: (removed(remove(change)), upload(change)),
    destroy=lambda change: (remove(change),),
    artifact=True,
)


def unpack(change: Change) -> Step:
    value = change.value
    assert value is not None
    return change.step(
        DEPLOY,
        f"Unpack {change.deployed} into {change.new['path']} on {change.container.name}",
        "vm.unpack",
        path=change.new["path"],
        sha256=value.artifact,
    )


def unpacked_away(change: Change) -> Step:
    previous, path = change.previous, change.old["path"]
    assert previous is not None
    text = f"Remove what {change.deployed} brought into {path} from {change.container.name}"
    return change.step(UNDEPLOY, text, "vm.remove_unpacked", path=path, sha256=previous.artifact)


ARCHIVE = DeployableType(
    "archive",
    "Archive",
    ON_VM,
    {
        "path": Field("path", "Folder that it is unpacked into", required=True),
        "restart": RESTART,
    },
    create=lambda change: (unpack(change),),
    modify=lambda change: (removed(unpacked_away(change)), unpack(change)),
    destroy=lambda change: (unpacked_away(change),),
    artifact=True,
    look=unpacking.contents,
)


def do(change: Change) -> Step:
    new = change.new
    return change.step(
        new["order"],
        f"Execute {change.deployed} on {change.container.name}",
        "vm.execute",
        script=new["script"],
        interpreter=new["interpreter"],
        **_as_whom(new),
        timeout_seconds=new["timeout_seconds"],
        undo=False,
        repeatable=new["repeatable"],
    )


def _as_whom(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return as whom a script runs, where that was said."""
    return {name: values[name] for name in ("user", "sudo") if values.get(name)}


def undo(change: Change, latest: int = 100) -> list[Step]:
    """Return the step that undoes; none without an undo script. Not later than order `latest`."""
    old = change.old
    if not old.get("undo"):
        return []
    return [
        change.step(
            min(old["undo_order"], latest),
            f"Undo {change.deployed} on {change.container.name}",
            "vm.execute",
            script=old["undo"],
            interpreter=old["interpreter"],
            **_as_whom(old),
            timeout_seconds=old["timeout_seconds"],
            undo=True,
            repeatable=old["repeatable"],
        )
    ]


def redo(change: Change) -> Iterable[Step]:
    """Undo the old one, then do the new one, whatever orders their authors chose."""
    done = do(change)
    return (*(removed(step) for step in undo(change, done.order)), done)


SCRIPT = DeployableType(
    "script",
    "Script",
    ON_VM,
    {
        "script": Field("lines", "Commands to run", required=True),
        "undo": Field("lines", "Commands that take them back"),
        "interpreter": Field("text", "What runs them", default="/bin/sh"),
        "user": Field("text", "Account in the guest that runs them"),
        "sudo": Field("flag", "With sudo"),
        "order": Field("integer", "Order", default=DEPLOY, **ORDER),  # type: ignore[arg-type]
        "undo_order": Field("integer", "Order of undoing", default=UNDEPLOY, **ORDER),  # type: ignore[arg-type]
        "timeout_seconds": Field("integer", "Time limit", default=300, least=1, most=86_400),
        "repeatable": Field("flag", "Safe to run again after a crash", default=False),
        "restart": RESTART,
    },
    create=lambda change: (do(change),),
    modify=redo,
    destroy=undo,
)


def service(change: Change, verb: str) -> Step:
    name = (change.new if verb == "start" else change.old)["service"]
    order = START_ARTIFACTS if verb == "start" else STOP_ARTIFACTS
    text = f"{verb.capitalize()} {name} on {change.container.name}"
    return change.step(order, text, "vm.service", do=verb, name=name)


SERVICE = DeployableType(
    "service",
    "Service",
    ON_VM,
    {"service": Field("text", "Name of the service in the guest", required=True)},
    create=lambda change: (service(change, "start"),),
    modify=lambda change: (service(change, "stop"), service(change, "start")),
    destroy=lambda change: (service(change, "stop"),),
)


def write(change: Change) -> Step:
    new = change.new
    return change.step(
        CREATE_RESOURCES,
        f"Write {change.deployed} to {new['path']} on {change.container.name}",
        "config.write",
        path=new["path"],
        values=new.get("values", {}),
        format=new["format"],
    )


def unwrite(change: Change) -> Step:
    path = change.old["path"]
    text = f"Remove {change.deployed} ({path}) from {change.container.name}"
    return change.step(DESTROY_RESOURCES, text, "config.remove", path=path)


def rewrite(change: Change) -> Iterable[Step]:
    """Write over the old one; one that lay elsewhere is removed first."""
    moved = (removed(unwrite(change)),) if change.changes("path") else ()
    return (*moved, write(change))


CONFIGURATION = DeployableType(
    "configuration",
    "Configuration values",
    ON_VM,
    {
        "path": Field("path", "File in the guest", required=True),
        "format": Field("choice", "Format", default="env", choices=("env", "json", "ini")),
        "values": Field("map", "Values", required=True),
        "restart": RESTART,
    },
    create=lambda change: (write(change),),
    modify=rewrite,
    destroy=lambda change: (unwrite(change),),
)
