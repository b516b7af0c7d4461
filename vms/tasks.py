from __future__ import annotations

from celery import shared_task

from jobs import bell
from vms import asking, draining, leases, placement, pools, revocations
from vms.lifecycle import PLACER


@shared_task
def place() -> None:
    bell.heard(PLACER)
    placement.place_pending()


@shared_task
def keep_pools() -> None:
    bell.heard(pools.KEEPER)
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
    asking.expire()
