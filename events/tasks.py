from __future__ import annotations

from celery import shared_task

from events import sealing


@shared_task
def seal() -> None:
    sealing.seal_events()
