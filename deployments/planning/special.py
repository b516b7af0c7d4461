"""Orchestrators that are no grouping: default, the load balancer's, canary."""

from __future__ import annotations

from deployments.planning.grouping import collect, names
from deployments.planning.model import (
    Block,
    Container,
    Context,
    Delta,
    Operation,
    Step,
    leaf,
    serial,
)

OUT_OF_POOL, INTO_POOL = 10, 90  # orders: STOP_ARTIFACTS, START_ARTIFACTS


def default(block: Block, context: Context) -> Block:
    """Change nothing."""
    return block


def by_balancer(block: Block, context: Context) -> Block:
    """Take the changed containers that a balancer manages out of its pool, and put them back.

    A leaf without such containers stays. The new deltas are on the balancer itself.
    """
    changed = [
        delta
        for delta in block.deltas
        if delta.container.balancer and delta.operation is not Operation.NOOP
    ]
    if not changed:
        return block
    spec = context.spec
    managed = names(changed)

    def switch(verb: str, order: int) -> Block:
        found = collect(changed, lambda delta: delta.container.balancer)
        deltas = []
        for balancer in sorted(found):
            places = sorted({delta.container.place for delta in found[balancer]})
            steps = tuple(
                Step(
                    order,
                    f"{verb} {name} in {balancer}",
                    action={
                        "kind": "balancer",
                        "verb": verb.lower(),
                        "balancer": balancer,
                        "member": name,
                    },
                )
                for name, _ in places
            )
            container = Container(balancer)
            deltas.append(Delta(balancer, container, Operation.MODIFY, steps=steps))
        return leaf(f"{verb} {managed} in load balancers", deltas, verb.lower())

    return serial(
        block.label,
        (
            switch("Disable", OUT_OF_POOL),
            leaf(f"{spec.verb} application {spec.title}", block.deltas, "deploy"),
            switch("Enable", INTO_POOL),
        ),
    )


def canary(block: Block, context: Context) -> Block:
    """Put the first delta of every deployable tagged `canary` before all others.

    Containers tagged `birdcage` come first. Not reversed on undeploy; nothing tagged: the leaf
    stays.
    """
    tagged = {delta.deployed for delta in block.deltas if "canary" in delta.tags}
    if not tagged:
        return block
    first: list[Delta] = []
    rest: list[Delta] = []
    for delta in sorted(block.deltas, key=lambda delta: "birdcage" not in delta.container.tags):
        if delta.deployed in tagged:
            tagged.remove(delta.deployed)
            first.append(delta)
        else:
            rest.append(delta)
    return serial(block.label, (leaf("Canary", first, "canary"), leaf("Rest", rest, "rest")))
