"""The database's clock: the one clock that all processes share.

Claims, leases and polls compare moments that different machines wrote, so none of them may come
from a machine's own clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.models import DateTimeField, ExpressionWrapper, Value
from django.db.models.functions import Now
from django.utils.dateparse import parse_datetime


def from_now(seconds: float) -> ExpressionWrapper:
    """Return the expression "`seconds` after the database's now" (negative: before)."""
    return ExpressionWrapper(
        Now() + Value(timedelta(seconds=seconds)), output_field=DateTimeField()
    )


def database_now() -> datetime:
    """Return the database's time, aware, in UTC. Costs one small query."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")
            moment = parse_datetime(cursor.fetchone()[0])
            assert moment is not None
            return moment.replace(tzinfo=UTC)
        cursor.execute("SELECT statement_timestamp()")
        return cursor.fetchone()[0]
