"""The worked cases, ground truth: every tree, with its labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import call_command

from deployments.planning import cases, plan

FILE = Path(__file__).with_name("cases.json")
CASES = cases.read(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    tree = cases.tree(plan(cases.spec(CASES[name])))
    assert tree == CASES[name]["expected"]


def ended(capsys, *arguments):
    """Return exit code, stdout and stderr of `manage.py plan`."""
    code: int | str | None = 0
    try:
        call_command("plan", *arguments)
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


def test_command_checks_all_and_prints_one_tree_alone(capsys):
    assert ended(capsys, "--case", str(FILE), "--check", "--labels") == (0, "", "")
    code, out, _ = ended(capsys, "--case", str(FILE), "--id", "C34")
    assert (code, json.loads(out)) == (0, None)
    code, out, _ = ended(capsys, "--case", str(FILE))
    assert json.loads(out) == {name: case["expected"] for name, case in CASES.items()}


def test_command_tells_the_first_difference(capsys, tmp_path):
    case = json.loads(json.dumps(CASES["C02"]))
    case["expected"]["children"][1]["steps"][0][2] = "Other"
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": [case]}))
    code, out, _ = ended(capsys, "--case", str(path), "--check")
    assert (code, out.split(":")[0]) == (1, "C02.children[1].steps[0]")


@pytest.mark.parametrize("name", ["Default", "parallel-by-container{", 'rolling{"batch": 0}'])
def test_command_refuses_with_one_sentence(capsys, tmp_path, name):
    case = json.loads(json.dumps(CASES["C02"]))
    case["input"]["orchestrators"] = [name]
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": [case]}))
    code, out, error = ended(capsys, "--case", str(path))
    assert (code, out, error.count("\n")) == (2, "", 1)
