from __future__ import annotations

from celery import shared_task

from deployments.running import scheduling


@shared_task
def start_scheduled() -> None:
    scheduling.start_due()
