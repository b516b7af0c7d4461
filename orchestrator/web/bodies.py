"""How large a request may be, and how long it may take to send it.

A body that is small enough to be kept is read here, in the event loop: a client that sends slowly
holds none of the threads that answer. Uploads are passed on piece by piece and never kept whole.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from django.conf import settings

from orchestrator.web.wire import header, refuse

if TYPE_CHECKING:
    from orchestrator.web.wire import Message, Receive, Scope, Send

MAXIMUM_HEADER_BYTES = 12_288  # below what the server itself takes (h11: 16 KiB), so that we answer
PAUSE_SECONDS = 30.0  # how long a client may send nothing in the middle of its body
UPLOADS = ("multipart/form-data", "application/octet-stream")
CLOSE = (b"connection", b"close")  # the rest of what the client sends is not read


class _Refused(Exception):
    def __init__(self, status: int, detail: str, code: str) -> None:
        self.answer = (status, detail, code)


class _Gone(Exception):
    """The client has left."""


async def admit(scope: Scope, receive: Receive, send: Send) -> Receive | None:
    """Return the `receive` for the application; None when the request was answered, or is gone."""
    try:
        return await _checked(scope, receive)
    except _Refused as refused:
        await refuse(send, *refused.answer, CLOSE)
    except _Gone:
        pass
    return None


async def _checked(scope: Scope, receive: Receive) -> Receive:
    headers = scope["headers"]
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if size + len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAXIMUM_HEADER_BYTES:
        raise _Refused(
            431,
            f"Address and headers are larger than {MAXIMUM_HEADER_BYTES} bytes. Delete the cookies "
            "of this site, or send less in them.",
            "headers_too_large",
        )
    chunked = bool(header(headers, b"transfer-encoding"))
    length = header(headers, b"content-length")
    if not chunked and length in ("", "0"):
        return receive
    upload = header(headers, b"content-type").lower().startswith(UPLOADS)
    maximum = settings.WEB_MAX_UPLOAD_BYTES if upload else settings.WEB_MAX_BODY_BYTES
    if length.isdigit() and int(length) > maximum:
        raise _too_large(maximum, upload)
    if not upload:
        body = await _collect(receive, maximum)
        # Whoever comes next need not know how it was sent.
        kept = [p for p in headers if p[0] not in (b"transfer-encoding", b"content-length")]
        scope["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
        return _given(body, receive)
    if chunked:
        raise _Refused(411, "Send an upload with its Content-Length.", "length_required")
    return _patient(receive)


def _too_large(maximum: int, upload: bool) -> _Refused:
    what = "The upload" if upload else "The body"
    return _Refused(
        413,
        f"{what} is larger than {maximum} bytes. Send less, or ask an administrator to raise "
        f"{'WEB_MAX_UPLOAD_BYTES' if upload else 'WEB_MAX_BODY_BYTES'}.",
        "too_large",
    )


async def _collect(receive: Receive, maximum: int) -> bytes:
    body = bytearray()
    while True:
        message = await _next(receive)
        if message["type"] == "http.disconnect":
            raise _Gone
        body += message.get("body", b"")
        if len(body) > maximum:
            raise _too_large(maximum, False)
        if not message.get("more_body", False):
            return bytes(body)


async def _next(receive: Receive) -> Message:
    try:
        return await asyncio.wait_for(receive(), PAUSE_SECONDS)
    except TimeoutError:
        raise _Refused(
            408, f"Nothing came for {PAUSE_SECONDS:.0f} s. Send it again.", "too_slow"
        ) from None


def _given(body: bytes, receive: Receive) -> Receive:
    told = False

    async def given() -> Message:
        nonlocal told
        if told:
            return await receive()  # that the client leaves
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return given


def _patient(receive: Receive) -> Receive:
    """Return a `receive` that takes a client that is too slow for one that has left."""
    ended = False

    async def patient() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        try:
            message = await _next(receive)
        except _Refused:
            return {"type": "http.disconnect"}
        ended = not message.get("more_body", False)
        return message

    return patient
