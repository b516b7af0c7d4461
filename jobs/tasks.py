from __future__ import annotations

from uuid import UUID

from celery import shared_task

from jobs import running, sweeping


@shared_task
def run_job(job_id: str) -> None:
    running.run_job(UUID(job_id))


@shared_task
def sweep() -> None:
    sweeping.sweep()
