"""“Register deployeds”: what a deployment changed goes into the environment's record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deployments.prepared import Reached


def record(
    prepared: Mapping[str, Any],
    reached: Iterable[Reached] | None,
    created: Mapping[tuple[str, str], str] | None = None,
) -> None:
    """Write what a deployment did. `prepared` is the `as_json()` of what was planned.

    `reached` None: every step is done or skipped, and all of it counts. Else the checkpoints that
    were passed, in order: only those deployeds are written (partial), which keeps the books of a
    deployment that was cancelled. `created` are the ids of VMs that steps `vm.create` made, by
    (deployed, path of its container).

    Runs in the caller's transaction; doing it again changes nothing.
    """
    raise NotImplementedError
