from __future__ import annotations

from celery import shared_task

from hosts import polling


@shared_task
def poll_tick() -> None:
    polling.tick()
