"""All types by name."""

from __future__ import annotations

from deployments.types.base import DeployableType
from deployments.types.guests import ARCHIVE, CONFIGURATION, FILE, SCRIPT, SERVICE
from deployments.types.machines import MACHINE, SNAPSHOT, STATE
from deployments.types.waiting import CHECK, MANUAL, WAIT

TYPES: dict[str, DeployableType] = {
    kind.name: kind
    for kind in (
        *(MACHINE, FILE, ARCHIVE, SCRIPT, SERVICE, CONFIGURATION),
        *(STATE, SNAPSHOT, CHECK, WAIT, MANUAL),
    )
}
