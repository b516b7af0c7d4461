"""What the ASGI front answers by itself for a path of this API, in the form of this API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from compat.wire.errors import shaped
from compat.wire.paths import PREFIX, normal
from orchestrator.api.errors import MEDIA_TYPE
from orchestrator.web.wire import answer, header

if TYPE_CHECKING:
    from orchestrator.web.wire import Message, Scope, Send


def in_form(scope: Scope, send: Send) -> Send:
    """Return the `send` for a request: one that translates problems, if its path is of this API.

    Too many requests, or too large a body: both are told before Django sees anything.
    """
    path = normal(scope["path"])
    if path is None:
        return send
    held: Message | None = None

    async def translating(message: Message) -> None:
        nonlocal held
        if message["type"] == "http.response.start":
            kind = header(message.get("headers", []), b"content-type")
            if kind == MEDIA_TYPE:
                held = message
                return
        elif held is not None and message["type"] == "http.response.body":
            told = json.loads(message.get("body", b""))
            response = shaped(
                held["status"], told["detail"], told["code"], path.removeprefix(PREFIX), False
            )
            kept = [p for p in held["headers"] if p[0].lower() not in _REPLACED]
            typed = (b"content-type", response["Content-Type"].encode())
            await answer(send, response.status_code, [typed, *kept], response.content)
            return
        await send(message)

    return translating


_REPLACED = (b"content-type", b"content-length")
