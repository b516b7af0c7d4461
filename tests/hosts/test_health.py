"""What observations make of a host's health: pure, without hosts and without a database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hosts.drivers.base import ErrorKind, HostError
from hosts.health import Vitals, failing_check
from tests.hosts.conftest import HARDWARE

GONE = HostError(ErrorKind.REFUSED, "Refused.")
SILENT = HostError(ErrorKind.TIMEOUT, "Silent.")
WRONG = HostError(ErrorKind.HOST_FAILED, "Failed.")
NEW, HEALTHY = Vitals("new"), Vitals("healthy", successes=5)
DOWN = Vitals("unreachable", "Silent.", "silent", failures=7)


def after(vitals: Vitals, *observations: HostError | None) -> Vitals:
    for one in observations:
        vitals = vitals.answered() if one is None else vitals.failed(one)
    return vitals


@pytest.mark.parametrize(
    ("vitals", "observations", "health", "unsettled"),
    [
        (NEW, [None], "healthy", False),
        (NEW, [SILENT], "new", True),
        (NEW, [SILENT, SILENT], "unreachable", False),
        (HEALTHY, [None], "healthy", False),
        (HEALTHY, [SILENT], "healthy", True),
        (HEALTHY, [SILENT, None], "healthy", False),
        (HEALTHY, [SILENT, None, SILENT], "healthy", True),
        (HEALTHY, [SILENT, SILENT], "unreachable", False),
        (HEALTHY, [WRONG], "healthy", True),
        (HEALTHY, [WRONG, WRONG], "degraded", False),
        (HEALTHY, [WRONG, WRONG, SILENT], "degraded", True),
        (HEALTHY, [WRONG, WRONG, SILENT, SILENT], "unreachable", False),
        (HEALTHY, [WRONG, WRONG, None], "degraded", True),
        (HEALTHY, [WRONG, WRONG, None, None], "healthy", False),
        (HEALTHY, [WRONG, SILENT], "healthy", True),
        (HEALTHY, [WRONG, SILENT, WRONG], "degraded", False),
        (DOWN, [None], "unreachable", True),
        (DOWN, [None, None], "healthy", False),
        (DOWN, [None, SILENT], "unreachable", True),
        (DOWN, [SILENT], "unreachable", False),
    ],
)
def test_observations_in_a_row(
    vitals: Vitals, observations: list[HostError | None], health: str, unsettled: bool
) -> None:
    seen = after(vitals, *observations)
    assert (seen.health, seen.unsettled) == (health, unsettled)


def test_a_refusal_confirmed_by_a_second_one_settles_it() -> None:
    assert HEALTHY.failed(GONE, times=2).health == "unreachable"
    assert HEALTHY.failed(GONE, times=2).reason == "Refused."


def test_a_failing_check_degrades_at_once_and_clears_at_once() -> None:
    worse = HEALTHY.checked("No licence.")
    assert (worse.health, worse.reason) == ("degraded", "No licence.")
    assert after(worse, None, None).health == "degraded"
    better = worse.checked("")
    assert (better.health, better.reason) == ("healthy", "")


def test_an_inventory_brings_no_unreachable_host_back() -> None:
    assert DOWN.checked("").health == "unreachable"
    assert NEW.checked("").health == "new"
    assert after(DOWN.checked("No licence."), None, None).health == "degraded"


def test_a_host_that_answers_errors_is_not_healed_by_its_list() -> None:
    assert after(HEALTHY, WRONG, WRONG).checked("").health == "degraded"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ""),
        ({"desktop_version": ""}, "not installed"),
        ({"licensed": False}, "no valid licence"),
        ({"clock_offset_seconds": 59.0}, ""),
        ({"clock_offset_seconds": None}, ""),
        ({"clock_offset_seconds": 61.0}, "about a minute ahead of ours"),
        ({"clock_offset_seconds": -3600.0}, "about 60 minutes behind ours"),
    ],
)
def test_checks(facts: dict[str, object], words: str) -> None:
    sentence = failing_check(replace(HARDWARE, **facts))
    assert words in sentence and bool(words) == bool(sentence)
