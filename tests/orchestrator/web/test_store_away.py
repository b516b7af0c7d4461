from __future__ import annotations

import sys

import pytest
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import HttpResponse
from django.test import RequestFactory

from orchestrator.web import errors
from orchestrator.web.middleware import StoreAwayMiddleware

AWAY = [
    OperationalError("unable to open database file"),
    OperationalError("database is locked"),
    OperationalError("couldn't get a connection after 5.00 sec"),
    InterfaceError("connection already closed"),
]
NOT_AWAY = [
    IntegrityError("UNIQUE constraint failed"),
    OperationalError("no such table: jobs_job"),
    ValueError("x"),
]
middleware = StoreAwayMiddleware(lambda request: HttpResponse("fine"))


@pytest.mark.parametrize("error", AWAY, ids=str)
def test_store_away_is_a_503_that_says_when_to_come_back(
    rf: RequestFactory, error: Exception
) -> None:
    answer = middleware.process_exception(rf.get("/api/v2/vms/"), error)
    assert answer is not None
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert answer["Content-Type"] == "application/problem+json"
    assert b'"code": "store_away"' in answer.content
    assert str(error).encode() not in answer.content


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("database or disk is full"),
        OperationalError('could not extend file "base/5/1": No space left on device'),
    ],
    ids=["sqlite", "postgresql"],
)
def test_a_full_disk_is_named(rf: RequestFactory, error: Exception) -> None:
    for path in ("/api/v2/vms/", "/vms/"):
        answer = middleware.process_exception(rf.get(path), error)
        assert answer is not None
        assert answer.status_code == 503
        assert b"no room left on its disk" in answer.content


@pytest.mark.parametrize("error", NOT_AWAY, ids=str)
def test_other_errors_stay_what_they_are(rf: RequestFactory, error: Exception) -> None:
    assert middleware.process_exception(rf.get("/"), error) is None


def test_a_page_gets_a_page(rf: RequestFactory) -> None:
    answer = middleware.process_exception(rf.get("/vms/"), AWAY[0])
    assert answer is not None
    assert answer["Content-Type"].startswith("text/html")
    assert answer.status_code == 503


def test_what_middleware_finds_is_told_apart_too(rf: RequestFactory) -> None:
    try:
        raise AWAY[0]
    except OperationalError:
        assert sys.exc_info()[0]
        answer = errors.server_error(rf.get("/api/v2/me/"))
    assert answer.status_code == 503
    assert errors.server_error(rf.get("/api/v2/me/")).status_code == 500


@pytest.mark.parametrize(
    ("status", "call"),
    [
        (400, errors.bad_request),
        (403, errors.permission_denied),
        (404, errors.not_found),
    ],
)
def test_handlers_answer_problems_to_the_api(rf: RequestFactory, status: int, call: object) -> None:
    answer = call(rf.get("/api/v2/x/"), PermissionDenied())  # type: ignore[operator]
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
