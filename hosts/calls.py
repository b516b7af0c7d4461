"""Calling a host from a job: open its driver, and settle what it says when it says no."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings

from hosts.drivers import Limits, open_driver
from hosts.drivers.base import HostError
from jobs.handlers import Handler
from jobs.outcomes import Again, Cancelled, Fail, Outcome
from jobs.running import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hosts.drivers.base import Driver
    from hosts.models import Host
    from jobs.claims import Claim


CONFIRMING = 2  # times as long as another probe waits the one that decides


def limits(*, confirming: bool = False) -> Limits:
    """Return how long each kind of call may take, as the settings say.

    A probe that confirms what another found waits longer: who answers late is not silent.
    """
    return Limits(
        probe_seconds=settings.HOST_PROBE_SECONDS * (CONFIRMING if confirming else 1),
        create_seconds=settings.CREATE_CALL_SECONDS,
        clone_seconds=settings.CLONE_CALL_SECONDS,
    )


@contextmanager
def driver_of(host: Host) -> Iterator[Driver]:
    """Open the host's driver with its credentials, for the calls of one step."""
    driver = open_driver(host.driver, host.connection, limits=limits())
    try:
        yield driver
    finally:
        driver.close()


class HostHandler(Handler):
    """The base of every job kind that calls hosts.

    A step lets `HostError` through: a permanent one fails the job with the host's sentence, any
    other is tried again with growing pauses. Payloads hold ids and never a secret; a step reads
    the host, and with it the credentials, at the moment of its call.
    """

    def run(self, claim: Claim) -> Outcome:
        return self._calling(claim, super().run)

    def cancel(self, claim: Claim) -> Outcome:
        return self._calling(claim, self.undo)

    def undo(self, claim: Claim) -> Outcome:
        """Undo what is under way, calling the host if need be. What `cancel` is for other kinds."""
        return Cancelled()

    def _calling(self, claim: Claim, step: Callable[[Claim], Outcome]) -> Outcome:
        try:
            return step(claim)
        except HostError as error:
            if error.permanent:
                return Fail(error.message)
            return Again(
                seconds=backoff(claim.job.failures),
                failed=True,
                message=f"The host does not do it now: {error.message} Trying again.",
            )
