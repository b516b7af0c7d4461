"""From a package and an environment to a plan: `prepare` and `prepare_rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from accounts.actors import Actor
    from deployments.models import Application, Environment, Package
    from deployments.prepared import Prepared, Reached


def prepare(
    *,
    actor: Actor,
    environment: Environment,
    package: Package | None = None,
    application: Application | None = None,
    operation: str = "deploy",
    mapping: Mapping[str, Sequence[str]] | None = None,
    orchestrators: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Prepared:
    """Return what deploying `package` to `environment`, or undeploying, would do. Writes nothing.

    `operation` is `deploy` (initial or update, as the record says) or `undeploy` (then
    `application`, or the application of `package`, goes). `mapping` is deployable → paths of
    containers, and replaces what types and tags give. `orchestrators` None: those of the package,
    else of a dictionary. `options`: `force_redeploy`, `resolution` (latest, existing),
    `undeploy_dependencies`, `optimize`, and parameters of orchestrators.

    Raises `Forbidden`, `NotFound`, and `Invalid` or `Conflict` with a sentence for whatever cannot
    be planned.
    """
    raise NotImplementedError


def prepare_rollback(
    *,
    actor: Actor,
    prepared: Mapping[str, Any],
    reached: Iterable[Reached] | None,
    created: Mapping[tuple[str, str], str] | None = None,
) -> Prepared:
    """Return what takes back a deployment: `prepared` is its `as_json()`.

    `reached` are the checkpoints that it passed, in order; None: all. `created` are the ids of VMs
    that its steps `vm.create` made. Record the original first (`deployed.record`), whatever it
    reached: a rollback changes the record only as far as it gets itself.
    """
    raise NotImplementedError
