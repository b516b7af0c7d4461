"""Uploading a pack in parts, by the signed addresses that the orchestrator's catalog hands out.

An extension of our catalog, not of the contract: a POST to ``pack_parts_url`` gives the parts, each
with its address and whether it is stored; a PUT there has the storage put them together.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hosts.simulator.packs import PIECE
from hosts.simulator.transfer import Progress, asking, said
from hosts.simulator.wire import RefusedError


def send(
    source: Path, address: str, *, md5: str, progress: Progress, cut: int | None = None
) -> bool:
    """Upload a file; return whether parts of an earlier try were there. They are not sent again.

    ``cut`` ends it after so many bytes of the file. Raises ``RefusedError`` 400.
    """
    asked = f"{address}?{urlencode({'size': source.stat().st_size, 'md5': md5})}"
    try:
        parts = _catalog("POST", asked)["parts"]
        for part in parts:
            if not part["stored"]:
                _put(source, part, progress, cut)
        _catalog("PUT", asked)
    except (http.client.HTTPException, OSError) as error:
        raise RefusedError(400, f"error 400: cannot write the pack: {said(error)}") from None
    except (KeyError, TypeError, ValueError):
        raise RefusedError(400, "error 400: the catalog gave no parts") from None
    return any(part["stored"] for part in parts)


def _catalog(method: str, address: str) -> dict[str, Any]:
    with asking(method, address, {"Content-Length": "0"}) as answer:
        found = json.loads(answer.read())
        if answer.status != 200:
            told = f"the catalog answered {answer.status}: {found.get('detail', '')}"
            raise RefusedError(400, f"error 400: {told}")
    return dict(found)


def _put(source: Path, part: dict[str, Any], progress: Progress, cut: int | None) -> None:
    def body() -> Iterator[bytes]:
        done, end = part["offset"], part["offset"] + part["size"]
        with source.open("rb") as file:
            file.seek(done)
            while done < end:
                piece = file.read(min(PIECE, end - done))
                if cut is not None and done + len(piece) > cut:
                    raise RefusedError(400, "error 400: the connection to the storage was lost")
                yield piece
                done += len(piece)
                progress(done)

    with asking("PUT", part["url"], {"Content-Length": str(part["size"])}, body()) as answer:
        if answer.status >= 300:
            raise RefusedError(400, f"error 400: the storage answered {answer.status}")
