"""The events hub of a host: a WebSocket (contract 2.9)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from hosts.drivers.base import Connection, ErrorKind, HostError, News, Report

from .guard import ForbiddenAddress, refuse_forbidden_end
from .messages import Answer
from .parsing import news_of
from .reading import WrongAnswer, parse_json
from .reports import report_of
from .tls import context_for
from .trouble import address_of, translate_connect_error

log = structlog.get_logger(__name__)

EVENT_TYPES = "pdfm,job_manager,catalog_cache"
ALL_TYPES = f"{EVENT_TYPES},stats,system_logs,reverse_proxy"
OPEN_SECONDS = 10.0
PING_SECONDS = 20.0  # the host asks each 30 s and leaves after 45 s of silence
MAX_FRAME_BYTES = 1024 * 1024
NOT_OFFERED = "The host offers no live events; it is polled."
_NO_HUB = {404, 405, 426, 501}


class _Guarded(ClientConnection):
    """A connection over which nothing is sent, no token either, if it ends where none may go."""

    async def handshake(self, *arguments: Any, **options: Any) -> None:
        refuse_forbidden_end(self.transport.get_extra_info("peername"))
        await super().handshake(*arguments, **options)


class _Connect(connect):
    """Follows no redirect: it could lead anywhere, and the host was enrolled under its own name."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def subscribe(connection: Connection, token: str, types: str) -> ClientConnection:
    """Open the hub for `types`; raises `HostError`, CREDENTIALS when the token is not taken."""
    base = connection.url.replace("http", "ws", 1)
    options: dict[str, Any] = {}
    if base.startswith("wss"):
        options["ssl"] = context_for(connection.tls_fingerprint)
    try:
        return await _Connect(
            f"{base}/v1/ws/subscribe?event_types={types}",
            additional_headers={"Authorization": f"Bearer {token}"},
            user_agent_header="orchestrator",
            open_timeout=OPEN_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=MAX_FRAME_BYTES,
            compression=None,
            proxy=None,
            create_connection=_Guarded,
            **options,
        )
    except InvalidStatus as error:
        raise _refusal(error.response.status_code) from None
    except TimeoutError:
        raise HostError(
            ErrorKind.TIMEOUT, f"The host did not open its events within {OPEN_SECONDS:g} seconds."
        ) from None
    except (InvalidHandshake, EOFError):
        raise HostError(
            ErrorKind.BAD_ANSWER,
            "The host did not open its events. Check what stands between us and the host: a proxy "
            "must let WebSockets through.",
        ) from None
    except (OSError, ForbiddenAddress) as error:
        host, port = address_of(connection.url)
        raise translate_connect_error(error, host, f"{host}:{port}") from error


def _refusal(status: int) -> HostError:
    if status in _NO_HUB:
        return HostError(ErrorKind.NOT_FOUND, NOT_OFFERED, status=status)
    if status in {401, 403}:
        return HostError(
            ErrorKind.CREDENTIALS,
            "The host does not show its events to this account. Give it the claim READ_ONLY there.",
            status=status,
        )
    message = f"The host answered {status} when asked for its events. See its log."
    return HostError(ErrorKind.HOST_FAILED, message, status=status)


async def follow(
    socket: ClientConnection,
    report: Callable[[Report], None] | None,
    hide: Callable[[str], str],
) -> AsyncIterator[News]:
    """Yield what is told; raises `HostError` when the connection ends. Passes bad frames over.

    What the host tells of itself goes to `report`, its texts through `hide`.
    """
    try:
        async for frame in socket:
            body = frame.encode() if isinstance(frame, str) else frame
            try:
                document = parse_json(body)
                news = news_of(document, _ANSWER)
                if report and (told := report_of(document, hide)):
                    report(told)
            except WrongAnswer as wrong:
                log.warning("host.bad_event", problem=str(wrong))
                continue
            if news is not None:
                yield news
    except ConnectionClosed:
        pass
    raise HostError(ErrorKind.DISCONNECTED, "The host ended the connection of its events.")


_ANSWER = Answer(101, "application/json", "", b"", 0.0, 0.0)  # parsers want one
