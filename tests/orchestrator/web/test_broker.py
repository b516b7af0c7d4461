"""A request that rings never waits long for a broker that is away."""

from __future__ import annotations

import shutil
import socket
import time
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from kombu import Connection
from kombu.exceptions import OperationalError

from jobs import bell
from jobs.tasks import run_job
from orchestrator.celery import app
from orchestrator.web import wake
from tests.support.product import OwnRedis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["closed", "silent"])
def away(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a port that refuses, or that accepts and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen(20)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def test_ringing_gives_up_within_a_second(away: str) -> None:
    assert app.conf.broker_transport_options == settings.CELERY_BROKER_TRANSPORT_OPTIONS
    for _ in range(2):
        began = time.monotonic()
        with (
            Connection(away, transport_options=app.conf.broker_transport_options) as connection,
            pytest.raises(OperationalError),
        ):
            run_job.apply_async(("id",), connection=connection, retry=False)  # type: ignore[call-arg]
        assert time.monotonic() - began < 5  # five times the promise


def test_waking_gives_up_within_a_second(away: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", away)
    wake.client.cache_clear()
    try:
        began = time.monotonic()
        wake.wake("events")
        assert time.monotonic() - began < 5  # five times the promise
        assert not wake.broker_answers()
        assert time.monotonic() - began < 10
    finally:
        wake.client.cache_clear()


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnRedis]:
    """A Redis of the test's own."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = OwnRedis(tmp_path)
    server.start()
    monkeypatch.setattr(settings, "REDIS_URL", server.url)
    wake.client.cache_clear()
    yield server
    wake.client.cache_clear()
    server.stop()


@pytest.mark.django_db(transaction=True)
def test_rings_for_a_recurring_task_that_nobody_heard_are_one(
    broker: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def send_task(task: str, *_: object, **__: object) -> None:
        sent.append(task)

    monkeypatch.setattr(app, "send_task", send_task)
    monkeypatch.setattr(bell, "UNHEARD_SECONDS", 60)
    monkeypatch.setattr(bell, "_quiet_until", 0.0)
    for _ in range(3):
        bell.ring_tick("some.task")
    bell.ring_tick("another.task")
    assert sent == ["some.task", "another.task"]
    bell.heard("some.task")
    bell.ring_tick("some.task")
    assert sent[2:] == ["some.task"]
    broker.stop()
    bell.ring_tick("some.task")  # is lost, and harms nobody
    bell.heard("some.task")
    assert sent[3:] == []


def test_each_queue_gets_only_its_own_messages() -> None:
    queues = app.amqp.queues
    assert {(q.name, q.exchange.name, q.routing_key) for q in queues.values()} == {
        ("steps", "steps", "steps"),
        ("calls", "calls", "calls"),
    }
