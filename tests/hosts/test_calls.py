"""How jobs live with hosts that say no."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from hosts.calls import HostHandler, limits
from hosts.drivers.base import ErrorKind, HostError
from jobs.outcomes import Again, Cancelled, Done, Fail, Outcome

if TYPE_CHECKING:
    from jobs.claims import Claim


class Handler(HostHandler):
    first = "send"

    def __init__(self, kind: ErrorKind | None) -> None:
        self.kind = kind

    def step_send(self, claim: Claim) -> Outcome:
        if self.kind:
            raise HostError(self.kind, "It said no.")
        return Done()

    def undo(self, claim: Claim) -> Outcome:
        return self.step_send(claim)


@pytest.fixture
def claim() -> Any:
    return SimpleNamespace(job=SimpleNamespace(step="send", failures=3))


@pytest.mark.parametrize("way", ["run", "cancel"])
def test_what_is_permanent_fails_and_all_else_is_tried_again(claim: Any, way: str) -> None:
    assert getattr(Handler(None), way)(claim) == Done()
    assert getattr(Handler(ErrorKind.REJECTED), way)(claim) == Fail("It said no.")
    again = getattr(Handler(ErrorKind.TIMEOUT), way)(claim)
    assert isinstance(again, Again)
    assert (again.failed, again.seconds) == (True, 8)
    assert "It said no." in again.message and again.message.endswith("Trying again.")


def test_nothing_to_undo_is_cancelled(claim: Any) -> None:
    assert HostHandler().cancel(claim) == Cancelled()


def test_limits_come_from_the_settings(settings: Any) -> None:
    settings.HOST_PROBE_SECONDS, settings.CREATE_CALL_SECONDS = 1.5, 7
    assert (limits().probe_seconds, limits().create_seconds) == (1.5, 7)
    assert limits(confirming=True).probe_seconds == 3
