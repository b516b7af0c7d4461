"""The client of the Parallels Desktop DevOps API (contract/parallels-devops-api.md)."""

from __future__ import annotations

from .driver import AsyncParallelsDriver, ParallelsDriver

__all__ = ["AsyncParallelsDriver", "ParallelsDriver"]
