"""What a host tells of itself: bounded, without secrets, and never trusted to be what it says."""

from __future__ import annotations

from typing import Any

import pytest

from hosts.drivers.base import Report
from hosts.drivers.parallels.reading import WrongAnswer
from hosts.drivers.parallels.reports import report_of
from orchestrator.scrub import scrub


def told(event_type: str, message: str, body: Any) -> Report | None:
    return report_of({"event_type": event_type, "message": message, "body": body}, scrub)


def test_only_known_fields_of_stats_and_log_lines_are_passed_on() -> None:
    stats = {"cpu_percent": 12.5, "goroutines": 40, "memory_bytes": "many", "password": "planted"}
    assert told("stats", "System Stats", stats) == Report(
        "stats",
        "System Stats",
        {"cpu_percent": 12.5, "goroutines": 40, "memory_bytes": "many"},
    )
    line = {"level": "info", "message": "login with password=planted", "time": "t", "more": "x"}
    report = told("system_logs", "System Log", line)
    assert report is not None
    assert report.body == {"level": "info", "message": "login with password=[hidden]", "time": "t"}


def test_bodies_are_flat_and_bounded() -> None:
    body: dict[str, Any] = {f"field-{number}": number for number in range(30)}
    body |= {"inner": {"a": 1}, "long" * 20: 1, "huge": 1e300}
    report = told("reverse_proxy", "HTTP Traffic Forwarded", body)
    assert report is not None
    assert (report.topic, len(report.body)) == ("traffic", 20)
    long = told("reverse_proxy", "REVERSE_PROXY_STATE_CHANGED", {"state": "x" * 5000, "n": 1e300})
    assert long is not None
    assert len(str(long.body["state"])) <= 2000
    assert set(long.body) == {"state"}


@pytest.mark.parametrize(
    ("event_type", "message"),
    [("pdfm", "VM_ADDED"), ("stats", "Else"), ("auth", "USER_ADDED"), ("", "System Stats")],
)
def test_other_events_are_no_reports(event_type: str, message: str) -> None:
    assert told(event_type, message, {"a": 1}) is None


@pytest.mark.parametrize("body", [None, 5, "text", [1]])
def test_a_report_without_a_body_is_a_wrong_answer(body: Any) -> None:
    with pytest.raises(WrongAnswer):
        told("stats", "System Stats", body)
