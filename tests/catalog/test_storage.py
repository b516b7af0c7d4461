"""The providers of storages, each against a real server, and what none of them does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from catalog.storage import CHUNK, PartStorage, StorageError, Trouble, open_storage, read_small, s3
from catalog.storage.connections import Provider, address_of, masked, parts_of, provider_of
from tests.support.storages import MAKERS

if TYPE_CHECKING:
    from collections.abc import Iterator

SEVEN = b"seven! " * 7


@pytest.fixture(params=MAKERS, scope="module")
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    with MAKERS[request.param]() as connection:
        found = provider_of(connection)
        assert found
        yield found


def test_a_storage_keeps_lists_reads_and_deletes(provider: Provider) -> None:
    """All of the protocol, with a pack of several pieces, against the provider's server."""
    storage = open_storage(provider, roots=[Path("/tmp")])
    pack = bytes(range(256)) * 4096 * 3  # three pieces
    try:
        assert list(storage.list()) == []
        storage.put("ubuntu/ubuntu-arm64-24.04.meta", b"{}")
        storage.put("ubuntu/ubuntu-arm64-24.04.pdpack", pack)
        storage.put("other/other.meta", SEVEN)
        assert [stored.key for stored in storage.list()] == [
            "other/other.meta",
            "ubuntu/ubuntu-arm64-24.04.meta",
            "ubuntu/ubuntu-arm64-24.04.pdpack",
        ]
        (stored,) = [one for one in storage.list("ubuntu/") if one.key.endswith("pdpack")]
        assert stored == storage.stat(stored.key)
        assert stored.size == len(pack)
        pieces = list(storage.read(stored.key))
        assert (b"".join(pieces), max(map(len, pieces)) <= CHUNK) == (pack, True)
        assert b"".join(storage.read(stored.key, offset=len(pack) - 300)) == pack[-300:]
        assert b"".join(storage.read(stored.key, offset=len(pack))) == b""
        with pytest.raises(StorageError, match="too large"):
            storage.put("big.meta", b"x" * (4 * CHUNK + 1))
            read_small(storage, "big.meta")
        storage.put("other/other.meta", b"new")
        assert read_small(storage, "other/other.meta") == b"new"
        for key in ("other/other.meta", "other/other.meta", "big.meta"):
            storage.delete(key)  # the second time it is not there: no error
        for asking in (storage.stat, lambda key: list(storage.read(key))):
            with pytest.raises(StorageError) as missing:
                asking("other/other.meta")
            assert missing.value.kind is Trouble.MISSING
        with pytest.raises(StorageError, match="is no name"):
            storage.put("../up", b"")
    finally:
        storage.close()


def test_signed_addresses_need_no_keys(provider: Provider) -> None:
    storage = open_storage(provider, roots=[Path("/tmp")])
    signs = provider.type in ("minio", "azure-storage-account")
    up = storage.upload_url("signed/one", 60)
    assert bool(up) == signs
    if not signs:
        assert storage.download_url("signed/one", 60) == ""
        return
    headers = {"x-ms-blob-type": "BlockBlob"} if provider.type.startswith("azure") else {}
    assert httpx.put(up, content=SEVEN, headers=headers).is_success
    assert httpx.get(storage.download_url("signed/one", 60)).content == SEVEN
    for secret in ("sk-secret-7", provider.get("storage_account_key")):
        assert not secret or secret not in up


def test_an_upload_in_parts_keeps_what_is_stored(provider: Provider) -> None:
    """Parts by signed addresses, in any order and each twice, then one object of them all."""
    storage = open_storage(provider, roots=[Path("/tmp")])
    if not isinstance(storage, PartStorage):
        assert provider.type in ("local-storage", "artifactory")
        return
    key, parts = "parts/one.pdpack", [b"a" * 5 * CHUNK, b"b" * 5 * CHUNK, b"c" * 7]
    upload, other = storage.begin_parts(key), storage.begin_parts(key)
    assert storage.stored_parts(key, upload) == {}
    for number in (3, 1, 1):
        url = storage.part_url(key, upload, number, 60)
        assert httpx.put(url, content=parts[number - 1]).is_success
        assert "sk-secret-7" not in url
    assert httpx.put(storage.part_url(key, other, 1, 60), content=b"of another").is_success
    assert storage.stored_parts(key, upload) == {1: 5 * CHUNK, 3: 7}
    assert storage.stored_parts(key, other) == {1: 10}
    with pytest.raises(StorageError) as missing:
        storage.stat(key)
    assert missing.value.kind is Trouble.MISSING
    assert httpx.put(storage.part_url(key, upload, 2, 60), content=parts[1]).is_success
    storage.finish_parts(key, upload, 3)
    assert b"".join(storage.read(key)) == b"".join(parts)
    for _ in range(2):  # the second time it is not there: no error
        storage.drop_parts(key, other)
    if provider.type == "minio":
        with pytest.raises(StorageError) as missing:
            storage.stored_parts(key, other)
        assert missing.value.kind is Trouble.MISSING
    assert storage.stat(key).size == sum(map(len, parts))


def test_wrong_keys_say_so_and_are_not_repeated(provider: Provider) -> None:
    if provider.type == "local-storage":
        with pytest.raises(StorageError, match="CATALOG_FOLDERS"):
            open_storage(provider, roots=[Path("/srv/packs")])
        return
    if provider.type == "minio":
        # moto accepts every key: here the server's documented refusal stands for it.
        body = {"Error": {"Code": "SignatureDoesNotMatch", "Message": "sk-secret-7"}}
        told = s3._told("a/b", {**body, "ResponseMetadata": {"HTTPStatusCode": 403}})
        assert (told.kind, "sk-secret" in str(told)) == (Trouble.CREDENTIALS, False)
        return
    wrong = {"storage_account_key": "d3Jvbmcta2V5", "access_key": "wrong-key"}
    options = {name: wrong.get(name, value) for name, value in provider.options.items()}
    storage = open_storage(replace(provider, options=options))
    with pytest.raises(StorageError, match="does not accept") as refused:
        storage.put("some/thing", b"")
    assert refused.value.kind is Trouble.CREDENTIALS
    assert not any(key in str(refused.value) for key in wrong.values())


@pytest.mark.parametrize(
    "connection",
    [
        "provider=minio;endpoint=169.254.169.254;use_ssl=false;bucket=b;access_key=a;secret_key=s",
        "provider=azure-storage-account;storage_account_name=a;storage_account_key=c2VjcmV0;"
        "container_name=c;endpoint=http://169.254.169.254/a",
        "provider=artifactory;url=http://169.254.169.254/x;repo=r;access_key=s",
        "provider=artifactory;url=http://0.0.0.0/x;repo=r;access_key=s",
    ],
)
def test_nothing_is_sent_where_nothing_may_be(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the connection counts. Loopback stands in for it: tests go nowhere else."""
    import socket

    real = socket.socket.connect

    def connect(sock: socket.socket, address: Any) -> None:
        # Of the storage alone: other threads of this process have their own connections.
        forbidden = address[0] in ("169.254.169.254", "0.0.0.0")
        real(sock, listener.getsockname() if forbidden else address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr("catalog.storage.guard.is_forbidden", lambda text: text == "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = provider_of(connection)
        assert found
        storage = open_storage(found)
        with pytest.raises(StorageError) as refused:
            storage.stat("a/b")
        assert refused.value.kind is Trouble.FORBIDDEN_ADDRESS
        listener.settimeout(5)
        taken, _ = listener.accept()
        assert taken.recv(100) == b""


def test_settings_that_cannot_work() -> None:
    for connection in (
        "provider=minio;bucket=b;access_key=a;secret_key=s",
        "provider=aws-s3;bucket=b",
        "provider=aws-s3;access_key=a;secret_key=s",
        "provider=aws-s3;bucket=b;use_environment_authentication=true",
        "provider=azure-storage-account;container_name=c",
        "provider=artifactory;url=https://a.example",
        "provider=local-storage",
        "provider=ftp;bucket=b",
    ):
        found = provider_of(connection)
        assert found
        with pytest.raises(StorageError) as wrong:
            open_storage(found, roots=[Path("/tmp")])
        assert (wrong.value.kind, wrong.value.permanent) == (Trouble.SETTINGS, True)


def test_a_local_storage_is_left_by_no_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.meta").write_text("secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "outside")
    storage = open_storage(
        Provider("local-storage", {"catalog_path": str(tmp_path / "in")}), roots=[tmp_path]
    )
    with pytest.raises(StorageError, match="leads out"):
        list(storage.read("link/secret.meta"))
    assert list(storage.list()) == []


def test_a_full_storage_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    storage = open_storage(
        Provider("local-storage", {"catalog_path": str(tmp_path)}), roots=[tmp_path]
    )
    with pytest.raises(StorageError, match="full") as refused:
        storage.put("a/b.meta", b"x")
    assert refused.value.kind is Trouble.FULL
    assert list(tmp_path.rglob("*.*")) == []


def test_connection_strings() -> None:
    key = (
        "host=a2V5OnNlY3JldA==@https://catalog.example:443;provider=aws-s3;bucket=b;secret_key=x=y"
    )
    assert parts_of(key)["secret_key"] == "x=y"
    address = address_of(key)
    assert address
    assert (address.url, address.api_key) == ("https://catalog.example:443", "a2V5OnNlY3JldA==")
    user = address_of("host=ci@example.com:p@ss@https://catalog.example/")
    assert user
    assert (user.username, user.password) == ("ci@example.com", "p@ss")
    assert (user.url, address_of("provider=minio")) == ("https://catalog.example", None)
    assert address_of("host=root:pw@catalog.example").url == "https://catalog.example"
    assert masked(key) == (
        "host=****@https://catalog.example:443;provider=aws-s3;bucket=b;secret_key=****"
    )
    assert "p@ss" not in masked("host=ci:p@ss@https://catalog.example")
    for nonsense in ("y", "host", "provider=a;provider=b", ""):
        assert masked(nonsense) == "****"
    assert "secret" not in repr(provider_of("provider=minio;secret_key=secret"))
