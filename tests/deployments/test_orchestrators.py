"""Sentences of section 3 of the rules that the worked cases leave open."""

from __future__ import annotations

import pytest

from deployments.planning import Container, Delta, Operation, PlanError, Spec, Step, plan


def on(name, **fields):
    return Container(name, **fields)


def put(deployed, container, package=None, tags=(), operation=Operation.CREATE):
    steps = (Step(70, f"{deployed} on {container.name}"),)
    return Delta(deployed, container, operation, package, frozenset(tags), steps)


def tree(deltas, *orchestrators, **options):
    operation = options.pop("operation", Operation.CREATE)
    return plan(Spec(operation, "Shop 1.0", "Test", tuple(deltas), orchestrators, **options))


def shape(block):
    """Return a block as text: S[…], P[…], or the label of a leaf."""
    if block.is_leaf:
        return block.label
    inside = ", ".join(shape(child) for child in block.children)
    return f"{block.kind.value[0].upper()}[{inside}]"


def texts(block):
    return [step.text for leaf in block.leaves() for step in leaf.steps]


def test_a_sub_group_alone_merges_those_of_all_groups():
    deltas = [put("x", on(f"c{g}{s}", group=g, sub_group=s)) for g in (1, 2) for s in (1, 2)]
    alone = tree(deltas, "sequential-by-deployment-sub-group")
    assert shape(alone) == (
        "S[Deploy on containers c11, c21 (SubGroup 1), Deploy on containers c12, c22 (SubGroup 2)]"
    )
    nested = tree(deltas, "sequential-by-deployment-group", "parallel-by-deployment-sub-group")
    assert [child.kind.value for child in nested.children] == ["parallel", "parallel"]


def test_containers_are_ordered_by_name_as_plain_text_and_ties_by_path():
    names = ["b", "B", "a10", "a9", "ä"]
    deltas = [put("x", on(name)) for name in names]
    assert [leaf.key for leaf in tree(deltas, "sequential-by-container").leaves()] == [
        *("B", "a10", "a9", "b", "ä"),
    ]
    twins = [put("x", on("same", path="vm:2")), put("x", on("same", path="vm:1"))]
    assert [leaf.key for leaf in tree(twins, "parallel-by-container").leaves()] == ["vm:1", "vm:2"]


def test_levels_are_the_longest_way_from_the_chosen_application():
    needs = {"A": ("B", "D"), "B": ("C",), "C": ("D",), "D": ()}
    deltas = [put("x", on("c"), package=name) for name in "ABCD"]
    options = {"dependencies": needs, "root": "A"}
    found = tree(deltas, "parallel-by-dependency", **options)
    # D is needed by A at once, but C needs it, too: it is deepest, so it comes first.
    assert shape(found) == (
        "S[Deploy D on Test, Deploy C on Test, Deploy B on Test, Deploy A on Test]"
    )
    gone = tree(
        [put("x", on("c"), package=name, operation=Operation.DESTROY) for name in "ABCD"],
        "sequential-by-dependency",
        operation=Operation.DESTROY,
        **options,
    )
    assert [leaf.key for leaf in gone.leaves()] == ["A", "B", "C", "D"]
    with pytest.raises(PlanError, match="need each other: A → B → A"):
        tree(deltas[:2], "sequential-by-dependency", dependencies={"A": ("B",), "B": ("A",)},
             root="A")  # fmt: skip


def test_members_come_once_dropped_ones_follow_and_no_composite_is_one_leaf():
    deltas = [put("x", on("c"), package=name) for name in ("Gone", "B", "A")]
    found = tree(deltas, "sequential-by-composite-package", members=("A", "B", "A"))
    assert [leaf.key for leaf in found.leaves()] == ["A", "B", "Gone"]
    assert tree(deltas, "sequential-by-composite-package").is_leaf


@pytest.mark.parametrize("most", [None, 0, 4, 9])
def test_throttling_without_a_limit_that_bites_is_parallel_by_container(most):
    deltas = [put("x", on(name)) for name in "abcd"]
    options = {} if most is None else {"options": {"maxContainersInParallel": most}}
    throttled = tree(deltas, "parallel-by-container-throttled", **options)
    assert shape(throttled) == shape(tree(deltas, "parallel-by-container"))


def test_throttling_cuts_after_reversing_and_a_chunk_of_one_is_a_leaf():
    deltas = [put("x", on(name), operation=Operation.DESTROY) for name in "abc"]
    name = 'parallel-by-container-throttled{"maxContainersInParallel": 2}'
    found = tree(deltas, name, operation=Operation.DESTROY)
    assert shape(found) == "S[P[Undeploy on c, Undeploy on b], Undeploy on a]"


def test_canary_takes_the_first_of_each_tagged_deployable_birdcages_first():
    cage = on("z", tags=frozenset({"birdcage"}))
    deltas = [
        put("app", on("a"), tags=["canary"]),
        put("app", cage, tags=["canary"]),
        put("conf", on("a")),
        put("db", on("b"), tags=["canary"]),
    ]
    found = tree(deltas, "canary")
    assert shape(found) == "S[Canary, Rest]"
    assert texts(found) == ["app on z", "db on b", "app on a", "conf on a"]
    assert tree([put("conf", on("a"))], "canary").is_leaf  # nothing is tagged
    undeploy = tree(deltas, "canary", operation=Operation.DESTROY)
    assert shape(undeploy) == "S[Canary, Rest]"  # not reversed


def test_a_balancer_before_groups_puts_its_own_steps_into_their_default():
    balanced = on("a", balancer="lb", group=1)
    deltas = [put("x", balanced), put("x", on("b", group=2))]
    names = ("sequential-by-loadbalancer-group", "sequential-by-deployment-group")
    found = tree(deltas, *names)
    assert texts(found) == ["Disable a in lb", "x on a", "x on b", "Enable a in lb"]
    assert found.children[0].label.endswith("(Group default)")
    # The other way round each group is taken out and put back by itself.
    other = texts(tree(deltas, *names[::-1]))
    assert other == ["Disable a in lb", "x on a", "Enable a in lb", "x on b"]
    assert tree(deltas[1:], "sequential-by-loadbalancer-group").is_leaf  # nothing is managed


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [("2", [2, 2, 2, 1]), ('"25%"', [1] * 7), ('[1, "50%", "100%"]', [1, 3, 3]), ("9", [7])],
)
def test_batches_are_counts_shares_or_a_growing_list(batch, sizes):
    deltas = [put("x", on(name)) for name in "abcdefg"]
    found = tree(deltas, f'rolling{{"batch": {batch}}}')
    blocks = found.children if found.kind.value == "serial" else (found,)
    assert [len(list(block.leaves())) for block in blocks] == sizes


def test_labels_and_hosts_are_keys_too_those_without_come_first():
    deltas = [
        put("x", on("a", labels={"site": "west"}, host="mac-2")),
        put("x", on("b", labels={"site": "east"}, host="mac-1")),
        put("x", on("c")),
    ]
    by_site = tree(deltas, "sequential-by-label:site")
    assert [leaf.key for leaf in by_site.leaves()] == ["default", "east", "west"]
    by_host = tree(deltas, "parallel-by-host")
    assert [leaf.key for leaf in by_host.leaves()] == ["default", "mac-1", "mac-2"]


def test_a_site_is_a_label_with_a_name_of_its_own():
    deltas = [put("x", on("a", labels={"site": "west"})), put("x", on("b"))]
    found = tree(deltas, "sequential-by-site")
    assert shape(found) == (
        "S[Deploy on container b (Site default), Deploy on container a (Site west)]"
    )


WEIGHTS = {"a": "10", "b": "200", "c": None, "d": "50", "e": "90", "f": "0"}


def weighed(**options):
    return [
        put("x", on(name, labels={"weight": text} if text else {}), **options)
        for name, text in WEIGHTS.items()
    ]


def test_the_heavier_come_first_and_those_without_a_weight_are_usual():
    found = tree(weighed(), "sequential-by-weight")
    assert [leaf.key for leaf in found.leaves()] == ["200", "90", "50", "10", "0"]
    assert found.children[2].label == "Deploy on containers c, d (Weight 50)"
    at_once = tree(weighed(), "parallel-by-weight")
    assert (at_once.kind.value, len(at_once.children)) == ("parallel", 5)
    going = weighed(operation=Operation.DESTROY)
    back = tree(going, "sequential-by-weight", operation=Operation.DESTROY)
    assert [leaf.key for leaf in back.leaves()] == ["0", "10", "50", "90", "200"]


def test_batches_by_summed_weight_are_filled_with_the_heaviest_first():
    found = tree(weighed(), 'parallel-by-weight{"maxWeightInParallel": 100}')
    keys = [[leaf.key for leaf in block.leaves()] for block in found.children]
    assert keys == [["b"], ["e"], ["c", "d"], ["a", "f"]]
    assert found.children[2].label == "Deploy on containers c, d"
    whole = tree(weighed(), "parallel-by-weight{maxWeightInParallel: 400}")
    assert (whole.kind.value, len(whole.children)) == ("parallel", 6)
    option = tree(weighed(), "parallel-by-weight", options={"maxWeightInParallel": 250})
    keys = [[leaf.key for leaf in block.leaves()] for block in option.children]
    assert keys == [["b"], ["e", "c", "d", "a", "f"]]
    going = weighed(operation=Operation.DESTROY)
    back = tree(going, "parallel-by-weight{maxWeightInParallel: 100}", operation=Operation.DESTROY)
    assert [[leaf.key for leaf in block.leaves()] for block in back.children] == [
        *(["f", "a", "d"], ["c"], ["e"], ["b"]),
    ]


@pytest.mark.parametrize(
    ("text", "orchestrator", "why"),
    [
        ("heavy", "sequential-by-weight", "The label weight of a is 'heavy'; give a whole number"),
        ("-1", "parallel-by-weight", "give a whole number from 0 on"),
        ("1", "parallel-by-weight{maxWeightInParallel: 0}", "give a whole number from 1 on"),
        ("1", 'parallel-by-weight{"maxWeightInParallel": true}', "give a whole number from 1"),
        ("1", "parallel-by-weight{maxWeightInParallel: 5, batch: 2}", "give one of them"),
        ("1", "sequential-by-weight{maxWeightInParallel: 5}", "it takes none"),
        ("1", "parallel-by-weight{most: 5}", "it takes batch, maxWeightInParallel"),
        ("1", "parallel-by-weights", "did you mean parallel-by-weight"),
    ],
)
def test_a_weight_that_is_none_is_told(text, orchestrator, why):
    deltas = [put("x", on("a", labels={"weight": text})), put("x", on("b"))]
    with pytest.raises(PlanError, match=why):
        tree(deltas, orchestrator)


def test_names_are_case_sensitive_and_those_of_old_are_not_known():
    for name in (
        "Default",
        "PARALLEL-BY-CONTAINER",
        "container-by-container-serial",
        "group-based",
    ):
        with pytest.raises(PlanError, match="no orchestrator"):
            tree([put("x", on("a"))], name)


def test_a_container_with_nothing_to_do_is_still_named_in_its_group():
    idle = Delta("x", on("idle", group=1), Operation.NOOP)
    deltas = [put("x", on("busy", group=1)), idle, put("x", on("other", group=2))]
    found = tree(deltas, "sequential-by-deployment-group")
    assert found.children[0].label == "Deploy on containers busy, idle (Group 1)"
