from __future__ import annotations

from celery import shared_task

from orchestrator.console import retention


@shared_task
def retain() -> None:
    retention.retain()
