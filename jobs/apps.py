from __future__ import annotations

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Durable work."""

    name = "jobs"

    def ready(self) -> None:
        from jobs import batches, handlers
        from jobs.models import Job
        from orchestrator.web import waiting

        waiting.register(lambda ids: Job.objects.which_let_go(ids, handlers.sent_once()))
        handlers.register(batches.KIND, batches.BatchHandler())
