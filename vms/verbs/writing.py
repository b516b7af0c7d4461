"""Files written into a running guest: by commands, a piece at a time, each safe to repeat.

Hosts take no file from us (their upload copies from their own disk), so a file goes into a guest
inside of commands. How far it came stands in the job: a worker or a host that is lost costs one
piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hosts.calls import driver_of
from jobs.outcomes import Again, Done, Fail, Outcome
from vms import access
from vms.verbs.asking import ask_in_place
from vms.verbs.commands import Command
from vms.verbs.executing import RUNNING
from vms.verbs.handling import VerbHandler

if TYPE_CHECKING:
    from accounts.actors import Actor
    from jobs.claims import Claim
    from jobs.models import Job
    from vms.models import Placement, VirtualMachine

CALL_SECONDS = 120  # of one piece; more than an archive of some GiB takes to be unpacked
CLAIM_SECONDS = 5.0  # pieces are sent for so long before others get their turn


@dataclass(frozen=True)
class Piece:
    """One command of several, which does no harm when it runs again.

    `after` is where the next begins, in bytes of `total`, and beyond them by as many steps as
    remain; None: it is the last. `expects` has to stand in the output as a word of its own, else
    the job fails with `mismatch`, or begins at the start if it had gone on from an earlier one.
    """

    command: Command
    after: int | None
    total: int
    expects: str = ""
    mismatch: str = ""
    result: dict[str, Any] | None = None


_sources: dict[str, Callable[[dict[str, Any], int], Piece]] = {}


def register_pieces(name: str, make: Callable[[dict[str, Any], int], Piece]) -> None:
    """Let `make` write the piece of a reference that begins at a place, when it is sent."""
    _sources[name] = make


def write_from(
    actor: Actor,
    vm: VirtualMachine,
    *,
    source: str,
    reference: dict[str, Any],
    told: str,
    at: int = 0,
) -> Job:
    """Send the pieces that `source` makes of `reference`, from `at` on; `told` is for the audit.

    The job's result is as of `vm.execute` for the last command that was sent, with what its piece
    adds. Raises `Forbidden`, and `Conflict` unless the VM runs.
    """
    return ask_in_place(
        actor,
        vm,
        "write",
        RUNNING,
        grant=True,
        alone=False,
        payload={"source": source, "reference": reference, "at": at, "began_at": at},
        told={"command": told[:500]},
    )


class WriteHandler(VerbHandler):
    """`vm.write`: one command after the other; one that may not have arrived is sent again."""

    states = RUNNING
    first = "send"
    calls = frozenset({"send"})
    lost: ClassVar[Literal["repeat", "ask"]] = "repeat"
    cancellable = True

    def step_send(self, claim: Claim, vm: VirtualMachine, placement: Placement) -> Outcome:
        if refusal := access.why_not_any_more(vm):
            return Fail(refusal)
        until = monotonic() + CLAIM_SECONDS
        with driver_of(placement.host) as driver:
            while True:
                payload = claim.job.payload
                piece = _sources[payload["source"]](payload["reference"], int(payload["at"]))
                sent = piece.command
                with claim.sending():
                    answer = driver.execute(
                        placement.host_vm_id, sent.command, sent.environment, CALL_SECONDS
                    )
                ended = self._ended(claim, piece, answer)
                if ended is not None:
                    return ended
                claim.remember(at=piece.after, tries=0)
                if monotonic() > until:
                    return Again(progress=_percent(piece), message=_how_far(piece))

    def _ended(self, claim: Claim, piece: Piece, answer: Any) -> Outcome | None:
        """Return how the job ends with this answer; None: there is more to send."""
        if not answer.exit_code and piece.expects and piece.expects not in answer.stdout.split():
            if claim.job.payload["began_at"]:  # what it went on from is not there any more
                return Again(payload={"at": 0, "began_at": 0}, message="Sent anew from the start.")
            return Fail(piece.mismatch)
        if not answer.exit_code and piece.after is not None:
            return None
        return Done(
            message=f"Exit code {answer.exit_code}.",
            result={
                "exit_code": answer.exit_code,
                "stdout": piece.command.masked(answer.stdout)[:2000],
                "stderr": piece.command.masked(answer.stderr)[:2000],
                **(piece.result or {}),
            },
        )


def _percent(piece: Piece) -> int:
    return min(99, 100 * (piece.after or 0) // max(1, piece.total))


def _how_far(piece: Piece) -> str:
    done, total = (size / 2**20 for size in (min(piece.after or 0, piece.total), piece.total))
    return f"{done:.1f} of {total:.1f} MiB are in the guest."
