from __future__ import annotations

from celery import shared_task

from hosts import holds, polling


@shared_task
def turn_holds() -> None:
    holds.turn()


@shared_task
def poll_tick() -> None:
    polling.tick()
