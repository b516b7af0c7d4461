"""Each stage of the pipeline by itself: orchestrate, contribute, simplify, split, wrap, number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deployments.planning import (
    Block,
    Container,
    Delta,
    Kind,
    Operation,
    PlanError,
    Rule,
    Spec,
    Step,
    leaf,
    parallel,
    plan,
    serial,
)
from deployments.planning.pipeline import MOST_ORCHESTRATORS, orchestrate
from deployments.planning.stages import contribute, number, simplify, split, wrap

A, B = Container("a", "vm:1"), Container("b", "vm:2")


def delta(name="app", container=A, operation=Operation.CREATE, *steps):
    return Delta(name, container, operation, steps=steps or (Step(70, f"{name} {container.name}"),))


def spec(*deltas, **options):
    operation = options.pop("operation", Operation.CREATE)
    return Spec(operation, "Shop 1.0", "Test", deltas, **options)


def filled(*texts, order=50):
    return Block(Kind.INTERLEAVED, "leaf", steps=tuple(Step(order, text) for text in texts))


def texts(block):
    return [step.text for one in block.leaves() for step in one.steps]


# Orchestrate


def test_the_first_named_is_outermost_and_the_composite_keeps_the_label_of_its_leaf():
    deltas = (delta("x", A), delta("y", A), delta("x", B))
    names = ("sequential-by-deployed", "parallel-by-container")
    tree = orchestrate(spec(*deltas, orchestrators=names))
    assert (tree.kind, tree.label) == (Kind.SERIAL, "Deploy Shop 1.0 on Test")
    assert [(one.kind, one.label) for one in tree.children] == [
        # By-deployed makes a leaf per delta, so that each holds one container.
        *((Kind.PARALLEL, "Deploy x"), (Kind.PARALLEL, "Deploy x"), (Kind.PARALLEL, "Deploy y")),
    ]
    assert [one.label for one in tree.leaves()] == ["Deploy on a", "Deploy on b", "Deploy on a"]
    other = orchestrate(spec(*deltas, orchestrators=names[::-1]))
    assert [one.kind for one in other.children] == [Kind.SERIAL, Kind.SERIAL]


def test_an_empty_leaf_stays_empty_and_names_are_looked_up_all_the_same():
    assert orchestrate(spec(orchestrators=("parallel-by-container",))) == leaf(spec().label, ())
    with pytest.raises(PlanError, match="no orchestrator"):
        orchestrate(spec(orchestrators=("nothing",)))
    with pytest.raises(PlanError, match=str(MOST_ORCHESTRATORS)):
        orchestrate(spec(orchestrators=("default",) * (MOST_ORCHESTRATORS + 1)))


def test_groups_are_numbers_and_none_comes_first_last_on_undeploy():
    containers = [Container(name, group=group) for name, group in (
        ("ten", 10), ("nine", 9), ("none", None), ("minus", -1), ("zero", 0))]  # fmt: skip
    deltas = tuple(delta("x", one) for one in containers)
    names = ("sequential-by-deployment-group",)
    keys = [one.key for one in orchestrate(spec(*deltas, orchestrators=names)).leaves()]
    assert keys == ["default", "-1", "0", "9", "10"]
    undeploy = spec(*deltas, orchestrators=names, operation=Operation.DESTROY)
    assert [one.key for one in orchestrate(undeploy).leaves()] == keys[::-1]
    # An update that removes things is not reversed: the operation of the whole decides.
    update = spec(
        *(replace(one, operation=Operation.DESTROY) for one in deltas),
        orchestrators=names,
        operation=Operation.MODIFY,
    )
    assert [one.key for one in orchestrate(update).leaves()] == keys


# Contribute and sort


def test_steps_are_sorted_by_order_and_stay_as_contributed_within_one():
    first = delta("x", A, Operation.CREATE, Step(70, "x1"), Step(10, "x2"), Step(70, "x3"))
    second = delta("y", B, Operation.CREATE, Step(10, "y1"), Step(70, "a-y2"))
    tree = contribute(leaf("all", (first, second)), spec(first, second))
    assert texts(tree) == ["x2", "y1", "x1", "x3", "a-y2"]
    assert tree.steps[0].deployeds == (("x", "vm:1"),)


def test_plan_scope_comes_first_once_per_leaf_where_something_changes():
    rule = Rule(("vm:1", "vm:2"), (Step(20, "stop"), Step(80, "start")))
    one = delta("x", A, Operation.CREATE, Step(20, "x"))
    two = delta("y", A, Operation.MODIFY, Step(20, "y"))
    idle = delta("z", B, Operation.NOOP)
    tree = contribute(leaf("all", (one, two, idle)), spec(one, two, idle, rules=(rule,)))
    assert texts(tree) == ["stop", "x", "y", "z b", "start"]
    assert tree.steps[0].deployeds == (("x", "vm:1"), ("y", "vm:1"))
    # A leaf of NOOPs gets nothing; several leaves get it each.
    parted = serial("all", (leaf("a", (one,)), leaf("b", (two,)), leaf("c", (idle,))))
    assert texts(contribute(parted, spec(rules=(rule,)))) == [
        *("stop", "x", "start", "stop", "y", "start", "z b"),
    ]


def test_a_rule_may_be_asked_for_by_some_changes_only():
    rule = Rule(("vm:1",), (Step(80, "restart"),), asked_by=frozenset({("y", "vm:1")}))
    one, two = delta("x", A), delta("y", A)
    parted = serial("all", (leaf("a", (one,)), leaf("b", (two,))))
    assert texts(contribute(parted, spec(rules=(rule,)))) == ["x a", "y a", "restart"]


# Simplify


def test_simplify_drops_splices_and_keeps_parallels():
    inner = serial("inner", (filled("2"), filled("3")))
    tree = serial("outer", (filled("1"), parallel("empty", (filled(),)), inner))
    assert [one.label for one in simplify(tree).children] == ["leaf"] * 3
    assert texts(simplify(tree)) == ["1", "2", "3"]
    # A composite of one child is that child, with its own label.
    assert simplify(parallel("only", (serial("in", (filled("x"),)),))).label == "leaf"
    both = parallel("p", (parallel("q", (filled("1"), filled("2"))), filled("3")))
    assert simplify(both) == both
    assert simplify(serial("nothing", (filled(), filled()))) is None


# Split


def test_split_cuts_by_order_and_then_by_hundreds_also_without_simplification():
    exactly = Block(Kind.INTERLEAVED, "l", steps=tuple(Step(n % 2, str(n)) for n in range(30)))
    assert split(exactly) is exactly
    one_more = replace(exactly, steps=(*exactly.steps, Step(1, "30")))
    assert [(one.label, len(one.steps)) for one in split(one_more).children] == [
        *(("order 0", 15), ("order 1", 16)),
    ]
    single = filled(*map(str, range(100)))
    assert split(single) is single
    assert [len(one.steps) for one in split(filled(*map(str, range(201)))).leaves()] == [
        *(100, 100, 1),
    ]
    many = delta("x", A, Operation.CREATE, *(Step(n % 3, str(n)) for n in range(40)))
    assert len(plan(spec(many, optimize=False)).children) == 3
    assert plan(spec(many, split=False)).is_leaf


# Wrap


def test_wrap_puts_pre_and_post_plan_outside_of_everything():
    tree = parallel("p", (filled("1"), filled("2")))
    around = spec(before=(Step(60, "b"), Step(50, "a")), after=(Step(50, "end"),))
    whole = wrap(tree, around)
    assert [one.label for one in whole.children] == [
        *("Prepare deployment", "p", "Finalize deployment"),
    ]
    assert texts(whole) == ["a", "b", "1", "2", "end"]
    assert wrap(tree, spec()) is tree
    assert wrap(None, spec()) is None
    assert wrap(None, around).label == around.label
    assert wrap(None, spec(before=(Step(50, "a"),))).label == "Prepare deployment"


# Number


def test_numbers_run_on_depth_first_through_parallel_branches():
    tree = serial("s", (parallel("p", (filled("1", "2"), filled("3"))), filled("4")))
    numbered = number(tree)
    assert [step.number for one in numbered.leaves() for step in one.steps] == [1, 2, 3, 4]
    assert texts(numbered) == ["1", "2", "3", "4"]
