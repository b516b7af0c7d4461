"""Types that look or wait: health checks, waits, manual instructions."""

from __future__ import annotations

from collections.abc import Iterable

from deployments import policies
from deployments.planning import Step
from deployments.schemas import Field, filled
from deployments.types.base import ANY, HOST, POST_FLIGHT, VM, Change, DeployableType

ANYWHERE = frozenset({VM, HOST})


def check(change: Change) -> Iterable[Step]:
    probe = filled(policies.CHECK, change.new)
    text = f"Check {change.deployed} ({probe['probe']}) on {change.container.name}"
    return (change.step(POST_FLIGHT, text, "check", **probe),)


CHECK = DeployableType(
    "check",
    "Health check",
    frozenset({VM}),
    policies.CHECK,
    create=check,
    modify=check,
    check=policies.check_problems,
)


def wait(change: Change) -> Iterable[Step]:
    seconds = change.new["seconds"]
    return (change.step(change.new["order"], f"Wait {seconds} s", "wait", seconds=seconds),)


WAIT = DeployableType(
    "wait",
    "Wait",
    ANYWHERE,
    {
        "seconds": Field("integer", "Seconds", required=True, least=1, most=86_400),
        "order": Field("integer", "Order", default=ANY, most=100),
    },
    create=wait,
    modify=wait,
)


def ask(change: Change) -> Iterable[Step]:
    text = f"{change.deployed} on {change.container.name}: by hand"
    new = change.new
    return (change.step(new["order"], text, "manual", instruction=new["instruction"]),)


def ask_back(change: Change) -> Iterable[Step]:
    old = change.old
    if not old.get("undo"):
        return ()
    text = f"Undo {change.deployed} on {change.container.name}: by hand"
    return (change.step(100 - old["order"], text, "manual", instruction=old["undo"]),)


MANUAL = DeployableType(
    "manual",
    "Manual instruction",
    ANYWHERE,
    {
        "instruction": Field("lines", "What a person does", required=True),
        "undo": Field("lines", "What a person does when it is undeployed"),
        "order": Field("integer", "Order", default=ANY, most=100),
    },
    create=ask,
    modify=ask,
    destroy=ask_back,
)
