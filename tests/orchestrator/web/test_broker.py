"""A request that rings never waits long for a broker that is away."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from kombu import Connection
from kombu.exceptions import OperationalError

from jobs.tasks import run_job
from orchestrator.celery import app
from orchestrator.web import wake

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    wake._client.cache_clear()
    try:
        began = time.monotonic()
        wake.wake("events")
        assert time.monotonic() - began < 5  # five times the promise
        assert not wake.broker_answers()
        assert time.monotonic() - began < 10
    finally:
        wake._client.cache_clear()


def test_each_queue_gets_only_its_own_messages() -> None:
    queues = app.amqp.queues
    assert {(q.name, q.exchange.name, q.routing_key) for q in queues.values()} == {
        ("steps", "steps", "steps"),
        ("calls", "calls", "calls"),
    }
