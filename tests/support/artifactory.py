"""A small server of Artifactory's documented calls on a repository, for tests of our client.

Deploy (PUT), retrieve with a range (GET), HEAD, delete, and the file list (`/api/storage/…?list`).
See https://jfrog.com/help/r/jfrog-rest-apis/artifacts-storage. It is no Artifactory: what it proves
is that we make these calls as they are documented.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Artifactory:
    """A running server: its address, its one repository and token."""

    url: str
    repo: str = "vms"
    token: str = "art-token-7"
    objects: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def artifactory() -> Iterator[Artifactory]:
    made = Artifactory("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Be quiet."""

        def _reply(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if self.command != "HEAD" or "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            if self.headers.get("Authorization") != f"Bearer {made.token}":
                return self._reply(401, b'{"errors":[{"status":401}]}')
            path = unquote(urlsplit(self.path).path)
            if path.startswith(f"/artifactory/api/storage/{made.repo}/"):
                files = [
                    {"uri": f"/{key}", "size": len(data), "folder": False}
                    for key, data in sorted(made.objects.items())
                ]
                listing = {"uri": self.path, "files": files}
                return self._reply(200, json.dumps(listing).encode())
            key = path.removeprefix(f"/artifactory/{made.repo}/")
            if self.command == "PUT":
                made.objects[key] = body
                return self._reply(201, b"{}")
            data = made.objects.get(key)
            if data is None:
                return self._reply(404, b'{"errors":[{"status":404}]}')
            if self.command == "DELETE":
                del made.objects[key]
                return self._reply(204)
            if self.command == "HEAD":
                return self._reply(200, Content_Length=str(len(data)))
            begin = (self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-")
            offset = int(begin)
            if offset > len(data) or (offset and offset == len(data)):
                return self._reply(416)
            return self._reply(206 if offset else 200, data[offset:])

        do_GET = do_PUT = do_HEAD = do_DELETE = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/artifactory"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
