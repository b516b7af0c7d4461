"""`/healthz`: the process lives. `/readyz`: it can work, and what is missing if not."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from orchestrator.web.models import Heartbeat
from orchestrator.web.wake import broker_answers

if TYPE_CHECKING:
    from django.http import HttpRequest

log = structlog.get_logger(__name__)

OK, AWAY = "ok", "away"
MIGRATIONS_SECONDS = 10.0  # how long the answer "all applied" is believed
_applied_until = 0.0


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 as long as the process answers at all. Asks nobody."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 503 without the database or its migrations, else 200.

    The status is `degraded` when the broker, workers or beat are away: reads and requests go on.
    """
    return _answer(look())


def look() -> dict[str, str]:
    """Return every part of the product with `ok`, or what is the matter with it."""
    checks: dict[str, str] = {"database": OK, "migrations": OK, "broker": OK}
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not _migrated():
            checks["migrations"] = "not applied"
    except Error as error:
        log.warning("readyz.database_away", error=str(error))
        checks["database"], checks["migrations"] = AWAY, "unknown"
    if not broker_answers():
        checks["broker"] = AWAY
    if checks["database"] == checks["migrations"] == OK:
        checks |= _processes()
    return checks


def _answer(checks: dict[str, str]) -> JsonResponse:
    if checks["database"] != OK or checks["migrations"] != OK:
        status, word = 503, "unavailable"
    else:
        status, word = 200, "ready" if set(checks.values()) == {OK} else "degraded"
    return JsonResponse({"status": word, "checks": checks}, status=status)


def _processes() -> dict[str, str]:
    served: set[str] = set()
    kinds: set[str] = set()
    for kind, queues in Heartbeat.objects.alive().values_list("kind", "queues"):
        kinds.add(kind)
        served.update(queues)
    missing = sorted(set(settings.WORK_QUEUES) - served)
    return {
        "workers": f"away from the queues: {', '.join(missing)}" if missing else OK,
        "beat": OK if "beat" in kinds else AWAY,
    }


@lru_cache(maxsize=1)
def _wanted() -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Return every migration of the code, with those that it replaces. Read once: it takes time."""
    loaded = MigrationLoader(None).disk_migrations or {}
    return {key: set(migration.replaces) for key, migration in loaded.items()}


def _migrated() -> bool:
    global _applied_until
    if time.monotonic() < _applied_until:
        return True
    applied = set(MigrationRecorder(connection).applied_migrations())
    for key, replaced in _wanted().items():
        # A squashed migration counts by those it replaces until it is recorded itself.
        if key not in applied and not (replaced and replaced <= applied):
            return False
    _applied_until = time.monotonic() + MIGRATIONS_SECONDS
    return True
