"""Watching hosts: a light probe often, the full inventory rarely or when somebody asks."""

from .claims import poll_host_now, poll_soon
from .ticking import tick

__all__ = ["poll_host_now", "poll_soon", "tick"]
