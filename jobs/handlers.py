"""Who does which kind of job. Rooms above register their handlers in `AppConfig.ready()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from jobs.outcomes import Cancelled, Outcome

if TYPE_CHECKING:
    from jobs.claims import Claim
    from jobs.models import Job


class Handler:
    """One kind of job. A step is a method `step_<name>(claim)` that returns an outcome.

    A step may run again after a lost worker, so it looks before it acts. No step holds a
    transaction while it waits for a host.
    """

    first: ClassVar[str]
    # Steps that may wait for a host: they run on the queue `calls`, within their lane's limit.
    calls: ClassVar[frozenset[str]] = frozenset()
    # What a worker lost while sending means: look and send again, or never send twice.
    lost: ClassVar[Literal["repeat", "ask"]] = "repeat"
    cancellable: ClassVar[bool] = False

    def run(self, claim: Claim) -> Outcome:
        """Run the step that the claimed job is at."""
        return getattr(self, f"step_{claim.job.step}")(claim)

    def cancel(self, claim: Claim) -> Outcome:
        """Undo what is under way. Called like a step once the job is `cancelling`."""
        return Cancelled()

    def failed(self, job: Job, error: str) -> None:
        """Put the domain's rows right, in the transaction that fails the job."""

    def cancelled(self, job: Job) -> None:
        """Put the domain's rows right, in the transaction that ends a cancelled job."""


_handlers: dict[str, Handler] = {}


def register(kind: str, handler: Handler) -> None:
    """Let `handler` do the jobs of `kind` (`vm.create`)."""
    if kind in _handlers:
        raise ValueError(f"The job kind {kind} has a handler already.")
    _handlers[kind] = handler


def handler_of(kind: str) -> Handler:
    """Return the handler of `kind`; raises `KeyError` when no room registered one."""
    return _handlers[kind]


def sent_once() -> list[str]:
    """Return the kinds whose call is never sent twice, and cannot be taken back."""
    return [kind for kind, handler in _handlers.items() if handler.lost == "ask"]


def kinds() -> list[str]:
    return sorted(_handlers)


class AtOnce(Handler):
    """A verb that its request finishes: its job is recorded as done and never runs."""

    first = ""


def register_at_once(*kinds_: str) -> None:
    """Register kinds whose jobs are only ever recorded (`jobs.queueing.record_done`)."""
    for kind in kinds_:
        register(kind, AtOnce())
