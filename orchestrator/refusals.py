"""How a domain function says no: an exception with a sentence that says what to do.

Pages show the sentence, the API sends it as `application/problem+json`; nobody else translates.
"""

from __future__ import annotations

READS = frozenset({"GET", "HEAD", "OPTIONS"})


def refuses_right(status: int, method: str) -> bool:
    """Return whether an answer to a request of `method` says that its caller may not do this.

    A write to what is not there may be one to what the caller may not see: 404 is all that they
    are told, and the audit trail tells of both.
    """
    return status == 403 or (status == 404 and method not in READS)


class Refusal(Exception):
    """A verb that was refused. `code` is for machines, `errors` maps fields to sentences."""

    status = 400
    title = "Bad Request"
    default_code = "invalid"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        errors: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.errors = errors or {}


class Invalid(Refusal):
    """A value is not acceptable."""

    @classmethod
    def field(cls, name: str, message: str) -> Invalid:
        return cls(message, errors={name: [message]})


class Forbidden(Refusal):
    """Visible to the caller, but not allowed."""

    status = 403
    title = "Forbidden"
    default_code = "forbidden"


class NotFound(Refusal):
    """Not there, or not visible to the caller: the two are told apart by nobody."""

    status = 404
    title = "Not Found"
    default_code = "not_found"


class Conflict(Refusal):
    """The object's state does not allow it now."""

    status = 409
    title = "Conflict"
    default_code = "conflict"


class KeyReused(Refusal):
    """An idempotency key came back with another request."""

    status = 422
    title = "Idempotency key reused"
    default_code = "idempotency_key_reused"
