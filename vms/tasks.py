from __future__ import annotations

from celery import shared_task

from vms import draining, leases, placement, pools, revocations


@shared_task
def place() -> None:
    placement.place_pending()


@shared_task
def keep_pools() -> None:
    pools.keep()


@shared_task
def watch_leases() -> None:
    leases.watch()
    leases.warn()


@shared_task
def watch_drains() -> None:
    draining.watch()


@shared_task
def end_expired_access() -> None:
    revocations.end_expired()
