from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError

from orchestrator.db.clock import from_now
from orchestrator.web import health
from orchestrator.web.models import Heartbeat
from tests.orchestrator.web.served.fixtures import ROOT, Served, until

if TYPE_CHECKING:
    from django.test import RequestFactory


@pytest.fixture
def all_else_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_migrated", lambda: True)
    monkeypatch.setattr(health, "broker_answers", lambda: True)


def ready(rf: RequestFactory) -> tuple[int, dict[str, Any]]:
    answer = health.readyz(rf.get("/readyz"))
    return answer.status_code, json.loads(answer.content)


@pytest.mark.django_db
@pytest.mark.usefixtures("all_else_well")
def test_workers_and_beat_away_is_degraded(rf: RequestFactory) -> None:
    status, body = ready(rf)
    assert (status, body["status"]) == (200, "degraded")
    assert body["checks"]["beat"] == "away"
    assert body["checks"]["workers"] == "away from the queues: calls, steps"
    Heartbeat.note("a", "worker", ["steps"])
    Heartbeat.note("b", "worker", ["calls"])
    Heartbeat.note("b", "worker", ["calls"])
    Heartbeat.note("c", "beat", [])
    assert ready(rf)[1]["status"] == "ready"
    Heartbeat.objects.filter(name="b").update(at=from_now(-21))
    assert ready(rf)[1]["checks"]["workers"] == "away from the queues: calls"


@pytest.mark.django_db
@pytest.mark.usefixtures("all_else_well")
def test_broker_away_is_degraded(rf: RequestFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "broker_answers", lambda: False)
    status, body = ready(rf)
    assert (status, body["status"], body["checks"]["broker"]) == (200, "degraded", "away")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({}, 200),
        ({("auth", "9999_new"): set()}, 503),
        ({("auth", "9999_squashed"): {("auth", "9998_gone")}}, 503),
    ],
)
def test_migrations_not_applied_is_503(
    rf: RequestFactory, monkeypatch: pytest.MonkeyPatch, wanted: Any, status: int
) -> None:
    monkeypatch.setattr(health, "_applied_until", 0.0)
    monkeypatch.setattr(health, "broker_answers", lambda: True)
    monkeypatch.setattr(health, "_wanted", lambda: wanted)
    assert ready(rf)[0] == status


def test_database_away_is_503(rf: RequestFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OperationalError("unable to open database file")

    monkeypatch.setattr(health.connection, "ensure_connection", refuse)
    monkeypatch.setattr(health, "broker_answers", lambda: True)
    status, body = ready(rf)
    assert (status, body["status"], body["checks"]["database"]) == (503, "unavailable", "away")


def test_healthz_asks_nobody(rf: RequestFactory) -> None:
    # No database fixture: a query would fail the test.
    assert health.healthz(rf.get("/healthz")).content == b"ok\n"


@pytest.mark.django_db
def test_old_rows_are_forgotten() -> None:
    Heartbeat.note("new", "worker", [])
    Heartbeat.note("old", "worker", [])
    Heartbeat.objects.filter(name="old").update(at=from_now(-7200))
    Heartbeat.forget_old()
    assert list(Heartbeat.objects.values_list("name", flat=True)) == ["new"]


def test_real_worker_and_beat_are_seen(own_served: Served) -> None:
    """Also across a restart of Redis, after which both work again by themselves."""
    commands = [
        ["worker", "-P", "threads", "-c", "2", "--without-gossip", "--without-mingle"],
        ["beat", "-S", "celery.beat:Scheduler"],
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "orchestrator", *command],
            cwd=ROOT,
            env=own_served.environment,
            stderr=own_served.log.with_suffix(f".{command[0]}").open("wb"),
        )
        for command in commands
    ]
    try:
        until(lambda: checks(own_served)["workers"] == "ok", 30, "the worker")
        until(lambda: checks(own_served)["beat"] == "ok", 30, "beat")
        own_served.redis.stop()
        assert checks(own_served)["broker"] == "away"
        assert checks(own_served)["workers"] == "ok"
        own_served.redis.start()
        # Beat rings, the worker seals: an event gets its number without us.
        own_served.post("/tell/?unsealed=1")
        until(lambda: own_served.get("/unsealed/").json() == 0, 30, "work after the restart")
        processes[0].send_signal(signal.SIGTERM)
        processes[0].wait(15)
        assert checks(own_served)["workers"] != "ok"
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def checks(served: Served) -> dict[str, str]:
    return dict(served.get("/readyz").json()["checks"])
