"""What a failed exchange means, and what to do about it."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from hosts.drivers.base import ErrorKind, HostError

from .guard import SENTENCE, ForbiddenAddress
from .messages import Request
from .tls import FingerprintMismatch


class Unreadable(Exception):
    """The answer must not be read on; carries kind and sentence."""

    def __init__(self, kind: ErrorKind, message: str, status: int) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status


TROUBLE = (
    Unreadable,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,  # TimeoutError of asyncio.timeout included
    UnicodeError,
)

_UNREACHABLE = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.EACCES,
}
_CUT_OFF = re.compile("disconnected|closed")
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
    UnicodeError,
)


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and the members of groups (anyio tries several addresses)."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]


def wants_fingerprint(problem: HostError) -> bool:
    return problem.kind is ErrorKind.TLS_UNTRUSTED and problem.fingerprint is None


def translate(error: Exception, request: Request) -> HostError:
    """Turn a failed exchange into the error that says what to do about it."""
    if isinstance(error, Unreadable):
        return HostError(error.kind, str(error), outcome_unknown=True, status=error.status)
    host, port = address_of(request.url)
    where = f"{host}:{port}"
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return HostError(
            ErrorKind.TIMEOUT,
            f"{where} did not answer in time. "
            "Check that the host is switched on and that no firewall is in between.",
        )
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return HostError(
            ErrorKind.TIMEOUT,
            f"{where} did not answer within {request.limit_seconds:g} seconds. "
            "Check the load of the host and its DevOps service.",
            outcome_unknown=True,
        )
    if isinstance(error, _NOT_SENT):
        return translate_connect_error(error, host, where)
    if isinstance(error, httpx.RemoteProtocolError) and not _CUT_OFF.search(str(error)):
        return HostError(
            ErrorKind.NOT_DEVOPS,
            f"{where} does not speak HTTP as expected. Check the port of the address.",
            outcome_unknown=True,
        )
    return HostError(
        ErrorKind.DISCONNECTED,
        f"The connection to {where} was lost before the answer was complete. "
        "Check the DevOps service of the host and the network.",
        outcome_unknown=True,
    )


def translate_connect_error(error: Exception, host: str, where: str) -> HostError:
    """Tell apart why no connection came about; nothing was sent."""
    for cause in _causes(error):
        match cause:
            case ForbiddenAddress():
                return HostError(ErrorKind.FORBIDDEN_ADDRESS, f"{where} is not asked: {SENTENCE}")
            case FingerprintMismatch():
                return HostError(
                    ErrorKind.TLS_UNTRUSTED,
                    f"{where} shows another TLS certificate than the pinned one. "
                    "Pin the new one only when you know that it was changed on purpose.",
                    fingerprint=cause.fingerprint,
                )
            case ssl.SSLCertVerificationError():
                return HostError(
                    ErrorKind.TLS_UNTRUSTED,
                    f"The TLS certificate of {where} is not trusted ({cause.verify_message}). "
                    "Compare its fingerprint with the one on the host and pin it, "
                    "or install a trusted certificate.",
                )
            case ssl.SSLError() if not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
                return HostError(
                    ErrorKind.NOT_DEVOPS,
                    f"{where} does not speak TLS as expected. "
                    "Check the port, or try an address that begins with http://.",
                )
            case socket.gaierror() | UnicodeError() | httpx.InvalidURL():
                return HostError(
                    ErrorKind.NAME_NOT_FOUND,
                    f"No machine named {host} was found. "
                    "Check the spelling of the address and the name service.",
                )
            case ConnectionRefusedError():
                return HostError(
                    ErrorKind.REFUSED,
                    f"{where} refused the connection. "
                    "Check the port and that the DevOps service runs.",
                )
    if any(isinstance(cause, OSError) and cause.errno in _UNREACHABLE for cause in _causes(error)):
        return HostError(
            ErrorKind.REFUSED,
            f"There is no way to {where} from here. Check the address and the network.",
        )
    return HostError(
        ErrorKind.DISCONNECTED,
        f"{where} closed the connection at once. "
        "Check the port and whether the address begins with http or https.",
    )
