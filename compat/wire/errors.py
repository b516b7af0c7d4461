"""How a refusal goes out: which status, and which of the three shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compat.wire.answers import answer, common_error, diagnostics, unauthorized
from orchestrator.api.errors import problem_of
from orchestrator.refusals import Refusal

if TYPE_CHECKING:
    from django.http import HttpResponse

# A right is missing, as opposed to a grant that ended or an image that was revoked: those are 403.
_RIGHTS = (
    *("forbidden", "token_scope", "token_network", "account_inactive", "token_revoked", "ticket"),
)


class Unauthorized(Refusal):
    """Nobody known asks. Without a sentence the body is `null`, as the contract has it."""

    status = 401
    title = "Unauthorized"
    default_code = "unauthorized"


class NotOffered(Refusal):
    """A call of the contract that this product does not offer; the sentence says why."""

    status = 501
    title = "Not Implemented"
    default_code = "not_offered"


def refusal(error: Exception, operation: str, *, with_diagnostics: bool) -> HttpResponse:
    """Return the answer for whatever an endpoint raised.

    `operation` is the path below the version. What nobody expected is logged, and told without any
    detail.
    """
    if isinstance(error, Unauthorized):
        return answer(unauthorized(error.message) if error.message else None, 401)
    problem = problem_of(error)
    told: dict[str, Any] = problem.data
    response = shaped(
        problem.status_code, told["detail"], told["code"], operation, with_diagnostics
    )
    if "Retry-After" in problem.headers:
        response["Retry-After"] = problem.headers["Retry-After"]
    return response


def shaped(
    status: int, detail: str, code: str, operation: str, with_diagnostics: bool
) -> HttpResponse:
    """Return an error in the shape and under the status that clients of this API know."""
    if status == 401 or (status == 403 and code in _RIGHTS):
        return answer(unauthorized(detail), 401)
    if status in (409, 412, 422):
        status = 400  # this API has no conflicts
    body = diagnostics if with_diagnostics else None
    return answer(body(status, detail, operation) if body else common_error(status, detail), status)
