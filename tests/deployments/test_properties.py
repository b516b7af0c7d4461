"""What holds for every plan, over random deltas (section 5.4 of the rules), and custom ones."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.planning import (
    Block,
    Container,
    Delta,
    Operation,
    PlanError,
    Spec,
    Step,
    plan,
    registry,
)
from deployments.planning.model import Kind
from deployments.planning.stages import simplify, split

if TYPE_CHECKING:
    from pathlib import Path

WORDS = (
    *("container", "composite-package", "deployment-group", "deployment-sub-group"),
    *("deployment-sub-sub-group", "deployed"),
)
TWINS = [(f"sequential-by-{word}", f"parallel-by-{word}") for word in WORDS]
CORE = ["default", *(name for pair in TWINS for name in pair)]
CONTAINERS = [
    Container(f"vm-{number}", group=number % 3 or None, sub_group=number % 2, tags=frozenset())
    for number in range(5)
]


@st.composite
def specs(draw: st.DrawFn, *, orchestrators: st.SearchStrategy[list[str]]) -> Spec:
    operation = draw(st.sampled_from([Operation.CREATE, Operation.DESTROY]))
    pairs = draw(
        st.lists(
            st.tuples(st.sampled_from(["web", "db", "cache", "conf"]), st.integers(0, 4)),
            max_size=12,
            unique=True,
        )
    )
    deltas = tuple(
        Delta(
            deployed=name,
            container=CONTAINERS[where],
            operation=operation,
            package=draw(st.sampled_from(["A", "B"])),
            steps=tuple(
                Step(draw(st.sampled_from([10, 50, 60])), f"{number} {name} on {where}")
                for number in range(draw(st.integers(0, 4)))
            ),
        )
        for name, where in pairs
    )
    return Spec(
        operation=operation,
        title="App 1.0",
        environment="Test",
        deltas=deltas,
        orchestrators=tuple(draw(orchestrators)),
        members=("A", "B"),
    )


some = st.lists(st.sampled_from(CORE), max_size=3)


def leaves(tree: Block | None) -> list[Block]:
    return list(tree.leaves()) if tree else []


def texts(tree: Block | None) -> list[str]:
    return [step.text for one in leaves(tree) for step in one.steps]


@given(specs(orchestrators=some))
@settings(max_examples=200, deadline=None)
def test_no_step_is_lost_or_doubled_and_numbers_and_orders_are_kept(spec: Spec) -> None:
    tree = plan(spec)
    assert Counter(texts(tree)) == Counter(texts(plan(replace(spec, orchestrators=()))))
    numbers = [step.number for one in leaves(tree) for step in one.steps]
    assert numbers == list(range(1, len(numbers) + 1))
    for one in leaves(tree):
        orders = [step.order for step in one.steps]
        assert orders == sorted(orders)
    # Splitting a large leaf adds a level of its own.
    whole = plan(replace(spec, split=False))
    assert (whole.depth() if whole else 0) <= 1 + len(spec.orchestrators)


@given(specs(orchestrators=some))
@settings(max_examples=100, deadline=None)
def test_default_changes_nothing_and_neither_does_the_same_one_twice(spec: Spec) -> None:
    tree = plan(spec)
    assert plan(replace(spec, orchestrators=(*spec.orchestrators, "default"))) == tree
    assert plan(replace(spec, orchestrators=("default", *spec.orchestrators))) == tree
    if spec.orchestrators:
        doubled = (*spec.orchestrators, spec.orchestrators[-1])
        assert texts(plan(replace(spec, orchestrators=doubled))) == texts(tree)


@given(specs(orchestrators=st.just([])), st.sampled_from(TWINS))
@settings(max_examples=100, deadline=None)
def test_twins_have_the_same_leaves_and_undeploying_reverses_serial_ones(
    spec: Spec, twins: tuple[str, str]
) -> None:
    serial, parallel = (plan(replace(spec, orchestrators=(name,))) for name in twins)
    assert texts(serial) == texts(parallel)
    deploying = replace(spec, operation=Operation.CREATE, orchestrators=(twins[0],))
    undeploying = replace(deploying, operation=Operation.DESTROY)
    labels = [one.key for one in leaves(plan(deploying))]
    assert [one.key for one in leaves(plan(undeploying))] == labels[::-1]


@given(specs(orchestrators=some))
@settings(max_examples=100, deadline=None)
def test_what_is_simplified_stays_so_and_leaves_nothing_empty(spec: Spec) -> None:
    tree = plan(spec)
    if tree is None:
        return
    again = simplify(tree)
    assert again is not None
    assert texts(again) == texts(tree)
    assert simplify(again) == again
    for block in _blocks(tree):
        assert block.is_leaf or len(block.children) > 1
        assert not block.is_leaf or block.steps
        if block.kind is Kind.SERIAL:
            assert all(child.kind is not Kind.SERIAL for child in block.children)


def _blocks(tree: Block) -> list[Block]:
    return [tree, *(block for child in tree.children for block in _blocks(child))]


@given(st.integers(0, 250), st.integers(1, 4))
def test_what_is_split_keeps_its_steps_and_small_leaves(count: int, orders: int) -> None:
    steps = tuple(Step(order=10 * (n * orders // max(1, count)), text=str(n)) for n in range(count))
    tree = split(Block(Kind.INTERLEAVED, "all", steps=steps))
    assert texts(tree) == [str(n) for n in range(count)]
    for one in leaves(tree):
        assert len(one.steps) <= (30 if len({step.order for step in one.steps}) > 1 else 100)


@given(
    specs(orchestrators=some),
    st.sampled_from(["sequential-by-container", "parallel-by-container"]),
)
@settings(max_examples=100, deadline=None)
def test_by_container_no_leaf_mixes_containers(spec: Spec, name: str) -> None:
    tree = plan(replace(spec, orchestrators=(*spec.orchestrators, name)))
    for one in leaves(tree):
        assert len({step.text.rpartition(" ")[2] for step in one.steps}) <= 1


CUSTOM = """
from deployments.planning import leaf, serial


def largest_first(block, context):
    by_tag = sorted(block.deltas, key=lambda delta: delta.deployed, reverse=True)
    return serial(block.label, [leaf(delta.deployed, [delta]) for delta in by_tag])


def loses_one(block, context):
    return leaf(block.label, block.deltas[1:])


def fails(block, context):
    raise KeyError("nothing")
"""


@pytest.fixture
def custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Loader]:
    (tmp_path / "our_orders.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "our_orders", raising=False)
    names = ("largest_first", "loses_one", "fails", "missing")
    return registry.custom([f"{name}=our_orders:{name}" for name in names])


def three(name: str) -> Spec:
    deltas = tuple(
        Delta(one, CONTAINERS[0], Operation.CREATE, steps=(Step(50, one),)) for one in "abc"
    )
    return Spec(Operation.CREATE, "App 1.0", "Test", deltas, orchestrators=(name,))


def test_an_orchestrator_of_a_setting_plans(custom: dict[str, registry.Loader]) -> None:
    assert texts(plan(three("largest_first"), custom)) == ["c", "b", "a"]


@pytest.mark.parametrize("name", ["loses_one", "fails", "missing", "unknown"])
def test_a_wrong_one_stops_the_planning_with_a_sentence(
    custom: dict[str, registry.Loader], name: str
) -> None:
    with pytest.raises(PlanError) as refusal:
        plan(three(name), custom)
    assert name in str(refusal.value)


def test_an_entry_of_another_form_is_refused() -> None:
    with pytest.raises(PlanError, match=r"name=package\.module:function"):
        registry.custom(["largest_first"])
