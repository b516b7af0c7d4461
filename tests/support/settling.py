"""`python -m tests.support.settling`: do what workers and beat would, until nothing is due.

For tests of the web process alone: their VMs get to run, and their events and audit lines are
sealed, without a broker.
"""

from __future__ import annotations

import os
import time

LIMIT_SECONDS = 90


def main() -> None:
    """Run all jobs until every one has ended; fail after `LIMIT_SECONDS`."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "orchestrator.settings"
    os.environ["LOG_LEVEL"] = "WARNING"

    import django

    django.setup()
    import orchestrator.celery  # noqa: F401 - bells ring through the product's own application
    from accounts.audit import seal_audit
    from events.sealing import seal_events
    from jobs import running
    from jobs.models import Job
    from vms import placement

    end = time.monotonic() + LIMIT_SECONDS
    while True:
        placement.place_pending()
        for job_id in list(Job.objects.claimable().values_list("pk", flat=True)):
            running.run_job(job_id)
        unfinished = Job.objects.filter(finished_at=None).values_list("kind", "step", "message")
        if not unfinished:
            break
        if time.monotonic() > end:
            raise SystemExit(f"Not within {LIMIT_SECONDS} s: {list(unfinished)}")
        time.sleep(0.02)  # the pause between two looks at what is due
    seal_events()
    seal_audit()


if __name__ == "__main__":
    main()
