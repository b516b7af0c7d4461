"""What packages may hold: each type with its properties and the steps that it contributes."""

from deployments.types.base import Change as Change
from deployments.types.base import DeployableType as DeployableType
from deployments.types.base import contribute as contribute
from deployments.types.registry import TYPES as TYPES
