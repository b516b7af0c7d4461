"""Taking a row that another transaction may be revoking."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import connection, models, transaction

# Of PostgreSQL's advisory locks: held together by all who rely, alone by one who revokes.
GATE = 7_365_824_091

M = TypeVar("M", bound=models.Model)


def go_in() -> None:
    """Wait for a revocation that wants to begin; call it first in a busy transaction that takes.

    PostgreSQL lets new readers share a row past a writer who waits for it, so under load a
    revocation would never get its row. The gate is fair: who comes behind `go_first` waits for it.
    SQLite has one writer at a time anyway.
    """
    _pass("pg_advisory_xact_lock_shared")


def go_first() -> None:
    """Begin a revocation: those who are in finish, and all others wait until this has ended.

    Call it before any row is locked.
    """
    _pass("pg_advisory_xact_lock")


def _pass(function: str) -> None:
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("The gate needs a transaction.")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}(%s)", [GATE])


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
