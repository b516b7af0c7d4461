from __future__ import annotations

from celery import shared_task

from deployments.running import control


@shared_task
def start_scheduled() -> None:
    control.start_due()
