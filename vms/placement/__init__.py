"""Finding a host for each pending VM."""

from vms.placement.placer import place_pending, why_not_host

__all__ = ["place_pending", "why_not_host"]
