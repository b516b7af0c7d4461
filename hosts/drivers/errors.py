"""The one error that drivers raise."""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """Why a call to a host did not work. Each kind has one cause and one thing to do about it."""

    NAME_NOT_FOUND = "name_not_found"
    FORBIDDEN_ADDRESS = "forbidden_address"
    """Of an address where no host may be; nothing was sent."""
    REFUSED = "refused"
    TIMEOUT = "timeout"
    TLS_UNTRUSTED = "tls_untrusted"
    CREDENTIALS = "credentials"
    NOT_DEVOPS = "not_devops"
    UNSUPPORTED_VERSION = "unsupported_version"
    BAD_ANSWER = "bad_answer"
    NOT_FOUND = "not_found"
    REJECTED = "rejected"
    """The host understood and said no: any 4xx that has no kind of its own."""
    HOST_FAILED = "host_failed"
    """5xx."""
    TOO_LARGE = "too_large"
    DISCONNECTED = "disconnected"
    """The connection was made and then lost."""


_PERMANENT = frozenset(
    {
        ErrorKind.FORBIDDEN_ADDRESS,
        ErrorKind.TLS_UNTRUSTED,
        ErrorKind.CREDENTIALS,
        ErrorKind.NOT_DEVOPS,
        ErrorKind.UNSUPPORTED_VERSION,
        ErrorKind.NOT_FOUND,
        ErrorKind.REJECTED,
        ErrorKind.TOO_LARGE,
    }
)


class HostError(Exception):
    """A call to a host did not work.

    `message` is a sentence for people that says what to do and holds no secret. `permanent` means
    that sending the same again is useless until somebody changes something. `outcome_unknown` means
    that the host may have done what it was asked to (principle 4: unknown is not failed).
    `fingerprint` comes with TLS_UNTRUSTED: the SHA-256 of the certificate that was shown.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        permanent: bool | None = None,
        outcome_unknown: bool = False,
        fingerprint: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message
        self.permanent = kind in _PERMANENT if permanent is None else permanent
        self.outcome_unknown = outcome_unknown
        self.fingerprint = fingerprint
        self.status = status

    def __str__(self) -> str:
        return self.message
