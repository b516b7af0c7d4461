from __future__ import annotations

from celery import shared_task

from accounts import audit


@shared_task
def seal() -> None:
    audit.seal_audit()
