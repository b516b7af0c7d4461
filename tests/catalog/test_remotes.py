"""Other catalogs: browsed under our access rules, imported from, and what they may answer."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actors import Actor
from catalog import images, remotes, sources
from orchestrator.refusals import Conflict, Forbidden
from tests.api.conftest import Api, make_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accounts.models import User
    from tests.catalog.conftest import Shelf

MANIFEST = {
    "catalog_id": "MACOS-XCODE",
    "version": "16.2",
    "architecture": "arm64",
    "type": "macvm",
    "pack_filename": "macos-xcode-arm64-16.2.pdpack",
    "size": 10737418240,
    "pack_size": 10240,
    "tags": ["latest"],
    "required_roles": ["IOS_TEAM"],
    "provider": {"type": "aws-s3", "meta": {"secret_key": "x9****Lm"}},
}


class Peer:
    """A catalog as the contract has it: login, and the list (8.29)."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.body: Any = [{"MACOS-XCODE": [MANIFEST, {"name": "broken"}]}]
        self.asked: list[tuple[str, str, str]] = []


@contextmanager
def _serve() -> Iterator[Peer]:
    peer = Peer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Be quiet."""

        def _answer(self, status: int, body: Any) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            login = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            peer.asked.append(("POST", self.path, str(login)))
            right = login == {"email": "ci@example.com", "password": "pw"}
            self._answer(200 if right else 401, {"token": "jwt-7"} if right else {})

        def do_GET(self) -> None:
            key = self.headers.get("Authorization") or self.headers.get("X-Api-Key") or ""
            peer.asked.append(("GET", self.path, key))
            known = key in ("Bearer jwt-7", "a2V5OnNlY3JldA==")
            self._answer(peer.status if known else 401, peer.body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    with _serve() as running:
        yield running


def test_another_catalog_is_browsed_and_imported_from(
    shelf: Shelf, peer: Peer, audrey: User, bob: User
) -> None:
    by_key = sources.add_source(
        shelf.alice, name="By key", connection=f"host=a2V5OnNlY3JldA==@{peer.url}"
    )
    source = sources.add_source(
        shelf.alice, name="Peer", connection=f"host=ci@example.com:pw@{peer.url}"
    )
    (found,) = remotes.browse(shelf.alice, source)
    assert (found.name, found.pack_bytes) == ("MACOS-XCODE:16.2 (arm64)", 10737418240)
    assert peer.asked[-1] == ("GET", "/api/v1/catalog", "Bearer jwt-7")
    assert remotes.browse(shelf.alice, by_key, catalog_id="macos-xcode", version="16.2") == [found]
    assert remotes.browse(shelf.alice, by_key, catalog_id="ubuntu") == []
    (offered,) = (
        Api(make_token(shelf.alice.user)).get(f"sources/{source.pk}/browse/").json()["results"]
    )
    assert (offered["name"], offered["revoked"]) == ("MACOS-XCODE:16.2 (arm64)", False)
    assert remotes.browse(Actor(user=audrey), source) == []  # she is not of the iOS team
    with pytest.raises(Forbidden):
        remotes.browse(Actor(user=bob), source)
    job = shelf.worker.finish(sources.request_import(shelf.alice, source))
    assert (job.state, job.message) == ("done", "1 added, 0 updated, 1 skipped.")
    image = shelf.image("macos-xcode")
    assert (image.type, image.pack_size_mib, image.tags) == ("macvm", 10240, ["latest"])
    assert image.source.connection.startswith("host=ci@example.com")
    with pytest.raises(Conflict, match="another catalog"):
        images.remove(shelf.alice, image, objects=True)
    with pytest.raises(Conflict, match="is a storage"):
        remotes.browse(shelf.alice, shelf.source)
    sources.change_source(shelf.alice, source, active=False)
    source.refresh_from_db()
    with pytest.raises(Conflict, match="switched off"):
        remotes.browse(shelf.alice, source)
    with pytest.raises(Conflict, match="switched off"):
        sources.request_import(shelf.alice, source)
    assert not type(image).objects.usable().filter(pk=image.pk).exists()


def test_what_another_catalog_may_answer(shelf: Shelf, peer: Peer) -> None:
    source = sources.add_source(
        shelf.alice, name="Peer", connection=f"host=a2V5OnNlY3JldA==@{peer.url}"
    )
    for body in (b"<html>", {"catalog": []}, b"[" * 100_000):
        peer.body = body
        with pytest.raises(Conflict, match="none of a catalog"):
            remotes.browse(shelf.alice, source)
    peer.body = b"x" * (remotes.MAXIMUM_ANSWER + 1)
    with pytest.raises(Conflict, match="too large"):
        remotes.browse(shelf.alice, source)
    peer.status = 503
    peer.body = b""
    with pytest.raises(Conflict, match="answered 503"):
        remotes.browse(shelf.alice, source)
    sources.change_source(shelf.alice, source, connection=f"host=ci:wrong@{peer.url}")
    source.refresh_from_db()
    with pytest.raises(Conflict, match="does not accept") as refused:
        remotes.browse(shelf.alice, source)
    assert "wrong" not in refused.value.message
    sources.change_source(shelf.alice, source, connection="host=ci:pw@http://127.0.0.1:9")
    source.refresh_from_db()
    with pytest.raises(Conflict, match="does not answer"):
        remotes.browse(shelf.alice, source)
