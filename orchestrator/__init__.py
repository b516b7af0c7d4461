"""The product's wiring, and what all rooms share."""

from __future__ import annotations

# `shared_task` and `apply_async` find the broker through this app, in web processes too.
from orchestrator.celery import app as celery_app

__all__ = ["celery_app"]
