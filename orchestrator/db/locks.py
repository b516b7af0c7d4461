"""Taking a row that another transaction may be revoking."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import connection, models, transaction

M = TypeVar("M", bound=models.Model)


def take(queryset: models.QuerySet[Any]) -> bool:
    """Return whether a row of `queryset` is there, and keep it so until the transaction ends.

    PostgreSQL: `SELECT … FOR SHARE`, which waits for a revocation in flight and then looks again.
    SQLite: a plain read, because its IMMEDIATE transactions exclude each other anyway. Raises
    `TransactionManagementError` outside a transaction. Foreign keys do not do this: Django's are
    deferred, so an insert-then-check would leak.
    """
    with connection.cursor() as cursor:
        cursor.execute(*_shared(queryset.order_by().values("pk")[:1]))
        return cursor.fetchone() is not None


def take_all(queryset: models.QuerySet[M]) -> list[M]:
    """Return the rows of `queryset`, each kept as `take` does, in id order."""
    return list(queryset.model._default_manager.raw(*_shared(queryset.order_by("pk"))))


def _shared(queryset: models.QuerySet[Any]) -> tuple[str, tuple[Any, ...]]:
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("take() needs a transaction.")
    sql, params = queryset.query.sql_with_params()
    if connection.vendor == "postgresql":
        table = connection.ops.quote_name(queryset.model._meta.db_table)
        sql = f"{sql} FOR SHARE OF {table}"
    return sql, params
