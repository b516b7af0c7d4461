"""The Celery application: `celery -A orchestrator worker` and `celery -A orchestrator beat`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, bootsteps, signals
from django_structlog.celery.steps import DjangoStructLogInitStep
from kombu.transport.redis import Channel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")

app = Celery("orchestrator")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# A worker that loses Redis would first give its messages back over that lost connection, and has
# died of it (kombu 5.7). They are only bells: the sweeper rings again.
Channel.do_restore = False


class HeartbeatStep(bootsteps.StartStopStep):
    """Says, as long as the worker runs, which queues it serves. Starts before the broker is asked
    for, so that a worker that waits for Redis counts as alive.
    """

    label = "Heartbeat row"

    def start(self, parent: Any) -> None:
        """Begin to write the worker's row."""
        from orchestrator.web.heartbeat import Pulse

        queues = sorted(parent.app.amqp.queues.consume_from)
        self.pulse = Pulse("worker", parent.hostname, queues=queues)
        self.pulse.start()

    def stop(self, parent: Any) -> None:
        """Remove the row: the worker left, and did not go missing."""
        self.pulse.stop()


app.steps["worker"].add(DjangoStructLogInitStep)
app.steps["worker"].add(HeartbeatStep)


@signals.beat_init.connect
def _follow_beat(sender: Any, **_: Any) -> None:
    """Let beat's row tell that it really ticks: each tick publishes, and each publishing counts."""
    import socket

    from orchestrator.web.heartbeat import Ticks

    ticks = Ticks("beat", f"beat@{socket.gethostname()}")
    signals.before_task_publish.connect(ticks.note, weak=False)
    ticks.start()


# Celery would otherwise set up its own handlers over the settings' LOGGING.
@signals.setup_logging.connect
def _keep_logging(**_: Any) -> None:
    import logging.config

    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)
