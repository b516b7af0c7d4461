"""The events hub of a simulated host, by the contract (2.9)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.simulation import Simulation, simulated_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection


@pytest.fixture(scope="module")
def running() -> Iterator[Simulation]:
    with simulated_hosts(1) as simulation:
        yield simulation


def token(simulation: Simulation) -> str:
    login = {"email": "root@localhost", "password": "simulated"}
    answer = httpx.post(f"{simulation.host_url(1)}/api/v1/auth/token", json=login)
    return str(answer.json()["token"])


def subscribe(simulation: Simulation, authorization: str) -> ClientConnection:
    address = simulation.host_url(1).replace("http", "ws", 1)
    query = f"event_types=pdfm,health,nonsense&authorization={authorization}"
    return connect(f"{address}/api/v1/ws/subscribe?{query}", proxy=None)


def frame(socket: ClientConnection, message: str) -> dict[str, Any]:
    """Return the next frame with this message."""
    while True:
        found: dict[str, Any] = json.loads(socket.recv(timeout=10))
        if found["message"] == message:
            return found


def test_a_subscriber_hears_what_it_asked_for(running: Simulation) -> None:
    with subscribe(running, token(running)) as socket:
        first = json.loads(socket.recv(timeout=10))
        assert first["event_type"] == "global"
        assert first["body"]["subscriptions"] == ["global", "health", "pdfm"]
        socket.send(json.dumps({"event_type": "health", "message": "ping", "id": "p1"}))
        assert frame(socket, "pong")["ref_id"] == "p1"
        socket.send("no JSON")

        running.control(1, vms=[{"name": "a", "state": "running"}])
        changed = frame(socket, "VM_STATE_CHANGED")["body"]
        assert (changed["previous_state"], changed["current_state"]) == ("stopped", "running")
        assert frame(socket, "VM_UPDATED")["body"]["new_vm"]["Name"] == "a"
        running.control(1, vms=[])
        assert frame(socket, "VM_REMOVED")["body"] == {"vm_id": changed["vm_id"]}
        running.control(1, drop_events=True)
        with pytest.raises(ConnectionClosed):
            frame(socket, "never")
    assert running.control(1)["subscribers"] == 0


def test_strangers_and_hosts_without_the_hub(running: Simulation) -> None:
    with pytest.raises(InvalidStatus) as refused:
        subscribe(running, "nonsense")
    assert refused.value.response.status_code == 401
    good = token(running)
    running.control(1, events=False)
    with pytest.raises(InvalidStatus) as refused:
        subscribe(running, good)
    assert refused.value.response.status_code == 404
    running.control(1, events=True)
