"""Counting queries of a page. Called in a Django process."""

from __future__ import annotations

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext


def queries(paths: list[str], cookie: str) -> dict[str, int]:
    """Return how many queries each page takes, the second time that it is asked for."""
    browser = Client(SERVER_NAME="127.0.0.1", headers={"cookie": cookie})
    counts: dict[str, int] = {}
    for path in paths:
        for _ in range(2):
            with CaptureQueriesContext(connection) as captured:
                answer = browser.get(path)
            if answer.status_code != 200:
                raise RuntimeError(f"{path} answered {answer.status_code}.")
        counts[path] = len(captured)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # as the autovacuum of a real server would have by then
    return counts
