"""The custom orchestrator of docs/examples: installed as a package, found by its entry point."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deployments.planning import Container, Delta, Operation, PlanError, Spec, Step, plan, registry

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "orchestrator-largest-first"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the example into a folder, without a network, and import from there."""
    target = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [
            *(ROOT / ".tools" / "bin" / "uv", "pip", "install", "--offline", "--no-deps"),
            *("--no-cache", "--python", sys.executable, "--target", target, EXAMPLE),
        ],
        check=True,
        capture_output=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        yield registry.custom()
    sys.modules.pop("orchestrator_largest_first", None)


def spec(*orchestrators):
    deltas = tuple(
        Delta(
            "app",
            Container(name, tags=frozenset(tags)),
            Operation.CREATE,
            steps=(Step(70, f"Put app on {name}"),),
        )
        for name, tags in (("a", ()), ("b", ("large",)), ("c", ()), ("d", ("huge",)))
    )
    return Spec(Operation.CREATE, "Shop 1.0", "Test", deltas, orchestrators)


def test_it_plans_like_ours(installed):
    tree = plan(spec("largest-first"), installed)
    first, others = tree.children
    assert (tree.kind.value, first.label, others.kind.value) == (
        *("serial", "Deploy on b", "parallel"),
    )
    assert [leaf.label for leaf in others.leaves()] == [
        *("Deploy on a", "Deploy on c", "Deploy on d"),
    ]
    assert {block.made_by for block in (first, *others.leaves())} == {"largest-first"}
    tree = plan(spec('largest-first{"tag": "huge"}'), installed)
    assert tree.children[0].label == "Deploy on d"
    # Combined with ours, each treats the leaves that are there so far.
    nested = plan(spec("largest-first", "parallel-by-deployed"), installed)
    assert [leaf.label for leaf in nested.leaves()] == ["Deploy app"] * 4


def test_a_broken_one_of_a_package_is_refused_with_a_sentence(installed):
    with pytest.raises(PlanError, match="broken-last lost or doubled deltas of “Deploy Shop"):
        plan(spec("broken-last"), installed)
    with pytest.raises(PlanError, match="did you mean largest-first"):
        plan(spec("largest-frist"), installed)
