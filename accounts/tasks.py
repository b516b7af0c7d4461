from __future__ import annotations

from celery import shared_task

from accounts import audit, expiring, webhooks
from accounts.audit import syslog
from events.webhooks import delivering


@shared_task
def seal() -> None:
    audit.seal_audit()


@shared_task
def check_audit() -> None:
    audit.check_if_due()


@shared_task
def send_audit() -> None:
    syslog.send_audit()


@shared_task
def warn_of_expiry() -> None:
    expiring.warn()


@shared_task
def deliver_webhooks() -> None:
    delivering.fan_out(webhooks.rights)
    delivering.deliver(webhooks.rights)
