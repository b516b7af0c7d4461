"""Packs go from a simulated host through a storage to another, and what may go wrong on the way."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from accounts.actors import Actor
from accounts.models import AuditEvent
from catalog import caching, handing, images, pushing, relay_front, sources, uploading
from catalog.models import CatalogSource, DownloadTicket, HostImage, Image, PackUpload
from catalog.storage import StorageError
from hosts import enrolment, inventory
from hosts.models import HostVM
from jobs import batches
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden, Invalid, NotFound
from tests.support.product import free_port, until
from tests.support.simulation import Simulation, simulated_hosts
from tests.support.storages import MAKERS
from tests.vms.conftest import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.live_server_helper import LiveServer

    from accounts.models import User
    from hosts.models import Host

FOLDER = Path("/Users/parallels/Parallels")


@pytest.fixture(scope="module")
def packing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulation, Path]]:
    """Two hosts whose packs are real files."""
    folder = tmp_path_factory.mktemp("hosts")
    with simulated_hosts(2, "--packs", str(folder)) as running:
        yield running, folder


@pytest.fixture(params=MAKERS, scope="module")
def connection(request: pytest.FixtureRequest) -> Iterator[str]:
    with MAKERS[request.param]() as made:
        yield made


@dataclass
class Way:
    """A host with a golden VM, another one, and a storage between them."""

    simulation: Simulation
    folder: Path
    alice: Actor
    worker: Worker
    hosts: list[Host]
    source: CatalogSource

    @property
    def storage(self) -> Path:
        return Path(self.source.connection.rpartition("=")[2])

    def push(self, version: str = "1", **more: Any) -> Job:
        wish = {"vm": "golden", "catalog_id": "Ubuntu CI", "version": version, **more}
        return self.worker.finish(pushing.push(self.alice, self.source, self.hosts[0], **wish))

    def pull(self, number: int = 2) -> Job:
        host = self.hosts[number - 1]
        return self.worker.finish(caching.pull(self.alice, host, Image.objects.present().get()))

    def golden(self, **vm: Any) -> None:
        golden = {"name": "golden", "state": "stopped", **vm}
        self.simulation.control(1, vms=[golden])
        inventory.refresh(self.hosts[0])

    def counts(self, number: int) -> dict[str, int]:
        found: dict[str, int] = self.simulation.control(number)["requests"]
        return found


def make_way(
    packing: tuple[Simulation, Path], alice: User, settings: Any, live_server: Any, connection: str
) -> Way:
    simulation, folder = packing
    settings.VM_POLL_SECONDS = 0.02
    settings.CREATE_DOUBT_SECONDS = 0.3
    settings.CREATE_CALL_SECONDS = 5.0
    settings.CATALOG_FOLDERS = [Path("/tmp")]
    settings.PUBLIC_URL = live_server.url
    simulation.reset()
    for made in folder.iterdir():
        shutil.rmtree(made)
    actor = Actor(user=alice)
    hosts = [
        enrolment.enrol(
            actor,
            name=f"mac-{number}",
            url=simulation.host_url(number),
            username="root@localhost",
            password="simulated",
        )
        for number in (1, 2)
    ]
    source = sources.add_source(actor, name="Packs", connection=connection)
    way = Way(simulation, folder, actor, Worker(), hosts, source)
    way.golden()
    return way


@pytest.fixture
def way(
    packing: tuple[Simulation, Path],
    transactional_db: None,
    alice: User,
    settings: Any,
    live_server: LiveServer,
    tmp_path: Path,
) -> Way:
    connection = f"provider=local-storage;catalog_path={tmp_path / 'packs'}"
    return make_way(packing, alice, settings, live_server, connection)


def test_a_pack_goes_through_every_storage_and_back(
    packing: tuple[Simulation, Path],
    connection: str,
    transactional_db: None,
    alice: User,
    settings: Any,
    live_server: LiveServer,
) -> None:
    """Pushed, checked, listed, downloaded with a ticket, unpacked: the same bytes arrive.

    Where the storage signs addresses, the host is never given its keys.
    """
    way = make_way(packing, alice, settings, live_server, connection)
    simulation, folder = packing
    simulation.control(bundle_bytes=3_000_000)
    with serving(settings):
        job = way.push(tags=["lts"], description="For builds", minimum_cpus=2)
    assert (job.state, job.error) == ("done", "")
    image = Image.objects.get(pk=job.result["image"])
    assert (image.catalog_id, image.tags, image.minimum_cpus) == ("UBUNTU_CI", ["latest", "lts"], 2)
    assert (image.provenance["host"], image.provenance["vm"]) == ("mac-1", "golden")
    assert (image.compressed, bool(image.sha256), bool(image.verified_at)) == (True, True, True)
    kept = str(list(Job.objects.values_list("payload", "result", "error", "message")))
    for secret in ("sk-secret-7", "Eby8vdM02x", "art-token-7", "sig=", "X-Amz-Signature"):
        assert secret not in kept
    job = way.pull()
    assert (job.state, job.error) == ("done", "")
    (there,) = (folder / "host-2/cache").iterdir()
    source = folder / "host-1" / str(FOLDER / "golden.pvm").lstrip("/")

    def files(root: Path) -> dict[str, str]:
        return {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*")
            if path.is_file()
        }

    assert files(there) == files(source)
    assert len(files(there)) == 2
    image.refresh_from_db()
    assert (image.downloads, image.last_downloaded_by) == (1, "mac-2")
    assert AuditEvent.objects.get(action="image.handed_out").data == {"host": "mac-2"}
    images.remove(way.alice, image, objects=True)
    caching.delete(way.alice, way.hosts[1], everything=True)
    way.worker.until(lambda: not Job.objects.open().exists())
    assert list((folder / "host-2/cache").iterdir()) == []


def test_what_is_handed_out_and_to_whom(way: Way, settings: Any) -> None:
    """One download for one host: not twice, not late, not for another image, not to a person."""
    way.push()
    image = Image.objects.get()
    host = way.hosts[1]
    url = f"{settings.PUBLIC_URL}/api/v1/catalog/UBUNTU_CI/1/arm64/download"

    def ask(key: str, where: str = url) -> httpx.Response:
        return httpx.get(where, headers={"X-Api-Key": key, "X-INTERNAL-API-CLIENT": "true"})

    key = handing.issue(image, host)
    assert not DownloadTicket.objects.filter(digest__contains=key).exists()
    assert ask(key, url.replace("/1/arm64", "/2/arm64")).status_code == 401
    found = ask(key)
    assert (found.status_code, found.headers["cache-control"]) == (200, "no-store")
    assert found.json()["provider"]["type"] == "local-storage"
    assert found.json()["catalog_id"] == "UBUNTU_CI"
    assert ask(key).status_code == 401
    late = handing.issue(image, host)
    DownloadTicket.objects.update(expires_at=image.created_at)
    for refused in (late, "", "c29tZTprZXk=", "ticket", handing.issue(image, host)[:-4] + "AAAA"):
        assert ask(refused).status_code == 401
    key = handing.issue(image, host)
    images.set_taint(way.alice, image, True)
    assert (ask(key).status_code, ask(key).json()["message"]) == (400, "Manifest is tainted")
    images.revoke(way.alice, image)
    assert (ask(key).status_code, ask(key).json()["message"]) == (403, "Manifest is revoked")


def test_keys_are_handed_out_only_where_a_source_says_so(transactional_db: None, way: Way) -> None:
    connection = (
        "provider=minio;endpoint=127.0.0.1:9;use_ssl=false;bucket=vms;access_key=AK7;"
        "secret_key=sk-secret-7"
    )
    source = sources.add_source(way.alice, name="Bucket", connection=connection)
    image = images.add_image(
        way.alice,
        source=source,
        catalog_id="a",
        version="1",
        architecture="arm64",
        type="pvm",
        path="a",
        pack_file="a.pdpack",
        metadata_file="a.meta",
    )

    def meta() -> dict[str, str]:
        key = handing.issue(image, way.hosts[0])
        named = {"catalog_id": "A", "version": "1", "architecture": "arm64"}
        found: dict[str, str] = handing.redeem(key, **named)["provider"]["meta"]
        return found

    assert "X-Amz-Signature" in meta()["pack_url"]
    assert "X-Amz-Expires=3600&" in f"{meta()['pack_url']}&"  # no revocation ends it sooner
    assert "X-Amz-Expires=21600&" in f"{handing.upload_connection(image)}&".replace(";", "&")
    assert "sk-secret-7" not in str(meta())
    assert "access_key" not in handing.upload_connection(image)
    sources.change_source(way.alice, source, hands_out_keys=True)
    image.refresh_from_db()
    assert meta()["secret_key"] == "sk-secret-7"


def test_an_interrupted_push_and_pull_go_on_where_they_were(way: Way) -> None:
    way.simulation.control(bundle_bytes=5_000_000, faults={"cuttransfer": 1})
    assert "connection to the storage was lost" in way.push(compress=False).error
    way.simulation.control(faults=None)
    assert way.push(compress=False).state == "done"
    assert way.counts(1)["transfer_resumed"] == 1
    way.simulation.control(faults={"cuttransfer": 1})
    assert "connection to the storage was lost" in way.pull().error
    way.simulation.control(faults=None)
    assert way.pull().state == "done"
    assert way.counts(2)["transfer_resumed"] == 1
    assert HostImage.objects.get().size_mib == 5


def test_a_wrong_checksum_a_missing_file_and_a_full_disk(way: Way) -> None:
    way.simulation.control(1, pack_room=1000)
    assert "not enough disk space" in way.push(compress=False).error
    assert not Image.objects.exists()
    way.simulation.control(1, pack_room=None)
    image = Image.objects.get(pk=way.push().result["image"])
    pack = way.storage / image.pack_key
    good = pack.read_bytes()
    way.simulation.control(2, pack_room=1000)
    assert "not enough disk space" in way.pull().error
    way.simulation.control(2, pack_room=None)
    pack.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (way.folder / "host-2/cache/UBUNTU_CI-1.part").unlink(missing_ok=True)
    assert "checksum of the pack is wrong" in way.pull().error
    pack.unlink()
    assert "cannot read the pack" in way.pull().error
    pack.write_bytes(good)
    assert way.pull().state == "done"


def test_a_push_is_refused_with_a_reason(way: Way, olga: User, bob: User) -> None:
    wish: dict[str, Any] = {"vm": "golden", "catalog_id": "ubuntu", "version": "1"}
    with pytest.raises(Forbidden):
        pushing.push(Actor(user=bob), way.source, way.hosts[0], **wish)
    with pytest.raises(NotFound):
        pushing.push(way.alice, way.source, way.hosts[0], **{**wish, "vm": "silver"})
    way.golden(state="running")
    with pytest.raises(Conflict, match="is running"):
        pushing.push(way.alice, way.source, way.hosts[0], **wish)
    way.golden(state="stopped")
    job = pushing.push(Actor(user=olga), way.source, way.hosts[0], **wish)
    assert pushing.push(way.alice, way.source, way.hosts[0], **wish) == job
    assert way.worker.finish(job).state == "done", job.error
    with pytest.raises(Conflict, match="is in the catalog"):
        pushing.push(way.alice, way.source, way.hosts[0], **wish)
    # Another content under the same name: what hosts have cached of it goes.
    assert way.pull().state == "done"
    vm = HostVM.objects.get(host=way.hosts[0], name="golden")
    disk = way.folder / "host-1" / vm.home.lstrip("/") / "harddisk.hdd/harddisk.hdd.0.hds"
    disk.write_bytes(b"changed")
    job = pushing.push(way.alice, way.source, way.hosts[0], override=True, **wish)
    assert way.worker.finish(job).state == "done", job.error
    way.worker.until(lambda: not Job.objects.open().exists())
    assert not HostImage.objects.exists()
    images.revoke(way.alice, Image.objects.get())
    with pytest.raises(Conflict, match="was revoked"):
        pushing.push(way.alice, way.source, way.hosts[0], override=True, **wish)


def test_a_lost_worker_pushes_nothing_twice(way: Way) -> None:
    job = pushing.push(
        way.alice, way.source, way.hosts[0], vm="golden", catalog_id="u", version="1"
    )
    way.worker.until(lambda: "push_async" in way.counts(1))
    Job.objects.filter(pk=job.pk).update(step="send")
    assert way.worker.finish(job).state == "done", job.error
    assert way.counts(1)["push_async"] == 1


@contextmanager
def serving(settings: Any) -> Iterator[str]:
    """The ASGI application, in a thread: where hosts reach this catalog."""
    from orchestrator.asgi import make_application

    server = uvicorn.Server(
        uvicorn.Config(make_application(), port=free_port(), access_log=False, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, 20, "the front has started")
    before, settings.PUBLIC_URL = settings.PUBLIC_URL, f"http://127.0.0.1:{server.config.port}"
    try:
        yield settings.PUBLIC_URL
    finally:
        settings.PUBLIC_URL = before
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def front(way: Way, settings: Any) -> Iterator[str]:
    with serving(settings) as url:
        yield url


def test_the_downloads_of_a_batch_share_one_limit_of_bandwidth(way: Way, front: str) -> None:
    """Two hosts pull 3 MB each at 4 MiB/s in all; without a limit it takes a fraction of that."""
    way.simulation.control(bundle_bytes=3_000_000)
    image = Image.objects.get(pk=way.push(compress=False).result["image"])
    wish = {"catalog_id": image.catalog_id, "version": image.version, "mib_per_second": 4}
    before = relay_front.sent._value.get()
    began = time.monotonic()
    job = batches.request(way.alice, caching.PULL, way.hosts, options=wish)
    assert way.worker.finish(job).result == {"done": 2}
    took = time.monotonic() - began
    assert image.pack_bytes
    assert relay_front.sent._value.get() - before == 2 * image.pack_bytes
    wanted = 2 * image.pack_bytes / (4 * 2**20)
    assert wanted * 0.9 < took < wanted * 4
    for host in way.hosts:
        caching.delete(way.alice, host, everything=True)
    way.worker.until(lambda: not Job.objects.open().exists())
    # Another batch has a pace of its own, and an interrupted download is gone on with.
    way.simulation.control(faults={"cuttransfer": 1})
    pull = caching.pull(way.alice, way.hosts[1], image, mib_per_second=500)
    assert "connection to the storage was lost" in way.worker.finish(pull).error
    way.simulation.control(faults=None)
    pull = caching.pull(way.alice, way.hosts[1], image, mib_per_second=500)
    assert way.worker.finish(pull).state == "done"
    assert way.counts(2)["transfer_resumed"] == 1


def test_what_is_passed_on_and_to_whom(way: Way, front: str, settings: Any) -> None:
    way.simulation.control(bundle_bytes=200_000)
    image = Image.objects.get(pk=way.push(compress=False).result["image"])
    pack = (way.storage / image.pack_key).read_bytes()
    limit = handing.Limit(50, "test")

    def addresses() -> dict[str, str]:
        key = handing.issue(image, way.hosts[1], limit)
        named = {"catalog_id": "UBUNTU_CI", "version": "1", "architecture": "arm64"}
        meta: dict[str, str] = handing.redeem(key, **named)["provider"]["meta"]
        return meta

    url = addresses()["pack_url"]
    assert url.startswith(front)
    assert httpx.get(addresses()["metadata_url"]).json()["catalog_id"] == "UBUNTU_CI"
    whole = httpx.get(url)
    assert (whole.content, whole.headers["cache-control"]) == (pack, "no-store")
    head = httpx.head(url)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(pack)))
    for asked, part in (
        ("bytes=100-", pack[100:]),
        ("bytes=0-99", pack[:100]),
        (f"bytes=5-{len(pack) + 7}", pack[5:]),
    ):
        answer = httpx.get(url, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, part)
    assert httpx.get(url, headers={"Range": f"bytes={len(pack)}-"}).status_code == 416
    assert httpx.get(url, headers={"Range": "lines=1-2"}).content == pack
    assert httpx.post(url).status_code == 405
    for wrong in (url[:-4] + "AAAA", f"{front}/packs/x", f"{front}/packs/x/y"):
        assert httpx.get(wrong).status_code == 403
    settings.CATALOG_ADDRESS_SECONDS = -1
    assert httpx.get(url).json()["code"] == "ticket"
    settings.CATALOG_ADDRESS_SECONDS = 600
    (way.storage / image.pack_key).rename(way.storage / "away")
    assert httpx.get(url).status_code == 404
    (way.storage / "away").rename(way.storage / image.pack_key)
    images.set_taint(way.alice, image, True)
    assert (httpx.get(url).status_code, httpx.get(url).json()["code"]) == (403, "image_revoked")


def test_a_revocation_ends_a_download_that_is_passed_on(
    way: Way, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_front, "CHECK_SECONDS", 0.1)
    way.simulation.control(bundle_bytes=20_000_000)
    image = Image.objects.get(pk=way.push(compress=False).result["image"])
    key = handing.issue(image, way.hosts[1], handing.Limit(1, "slow"))
    named = {"catalog_id": "UBUNTU_CI", "version": "1", "architecture": "arm64"}
    url = handing.redeem(key, **named)["provider"]["meta"]["pack_url"]
    got = 0
    with httpx.stream("GET", url) as answer, pytest.raises(httpx.RemoteProtocolError):
        for piece in answer.iter_bytes():
            if not got:
                images.revoke(way.alice, image)
            got += len(piece)
    assert 0 < got < 20_000_000 / 2


def test_a_limit_that_cannot_be_kept_is_refused(way: Way, settings: Any) -> None:
    image = Image.objects.get(pk=way.push().result["image"])
    host = way.hosts[1]
    for wrong in (0, -1, 100_001):
        with pytest.raises(Invalid):
            caching.pull(way.alice, host, image, mib_per_second=wrong)
    settings.PUBLIC_URL = ""
    with pytest.raises(Conflict, match="PUBLIC_URL"):
        caching.pull(way.alice, host, image, mib_per_second=5)
    sources.change_source(way.alice, way.source, hands_out_keys=True)
    image.refresh_from_db()
    with pytest.raises(Conflict, match="hands its keys out"):
        caching.pull(way.alice, host, image, mib_per_second=5)


def test_a_large_pack_goes_up_in_parts_and_none_of_them_twice(
    packing: tuple[Simulation, Path],
    connection: str,
    transactional_db: None,
    alice: User,
    settings: Any,
    live_server: LiveServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """12 MB in parts of 5 MiB, cut off in the middle; the next push sends what is missing."""
    monkeypatch.setattr(uploading, "SMALLEST", 5 * 2**20)
    way = make_way(packing, alice, settings, live_server, connection)
    way.simulation.control(1, bundle_bytes=12_000_000, faults={"cuttransfer": 1})
    in_parts = "minio" in connection or "azure" in connection
    with serving(settings):
        job = way.push(compress=False)
        assert "connection to the storage was lost" in job.error
        assert PackUpload.objects.count() == int(in_parts)
        way.simulation.control(1, faults={"cuttransfer": 0})
        job = way.push(compress=False)
        assert (job.state, job.error) == ("done", "")
        resumes = in_parts or "local-storage" in connection
        assert way.counts(1).get("transfer_resumed", 0) == int(resumes)
        assert not PackUpload.objects.exists()
        assert way.pull().state == "done"
    kept = str(list(Job.objects.values_list("payload", "result", "error", "message")))
    assert uploading.UPLOADS not in kept
    images.remove(way.alice, Image.objects.get(), objects=True)
    way.worker.until(lambda: not Job.objects.open().exists())


def test_the_parts_of_an_upload_are_given_to_its_push_alone(
    packing: tuple[Simulation, Path],
    transactional_db: None,
    alice: User,
    settings: Any,
    live_server: LiveServer,
) -> None:
    with MAKERS["minio"]() as connection:
        way = make_way(packing, alice, settings, live_server, connection)
        settings.PUBLIC_URL = "http://front.example"
        job = pushing.push(
            way.alice, way.source, way.hosts[0], vm="golden", catalog_id="u", version="1"
        )
        image = pushing._image(way.source, "u", "1", "arm64")
        token = uploading.address_of(job, image).rpartition("/")[2]
        size, one, other = str(40 * 2**20), "1" * 32, "2" * 32
        sizes = ("0", "-1", "x", "", "9" * 5000)
        for wrong in (*((bad, one) for bad in sizes), (size, "x"), (size, "")):
            with pytest.raises(Invalid):
                uploading.sheet(token, *wrong)
        with pytest.raises(Forbidden):
            uploading.sheet(token[:-3] + "AAA", size, one)
        with pytest.raises(Conflict, match="not in the storage"):
            uploading.finish(token, size, one)
        parts = uploading.sheet(token, size, one)["parts"]
        assert [part["size"] for part in parts] == [16 * 2**20, 16 * 2**20, 8 * 2**20]
        assert [part["offset"] for part in parts] == [0, 16 * 2**20, 32 * 2**20]
        assert httpx.put(parts[2]["url"], content=bytes(parts[2]["size"])).is_success
        stored = [part["stored"] for part in uploading.sheet(token, size, one)["parts"]]
        assert stored == [False, False, True]
        with pytest.raises(Conflict, match="2 of 3 parts are missing"):
            uploading.finish(token, size, one)
        # Another pack under the same name: nothing of the first one is taken for its parts.
        first = PackUpload.objects.get().upload
        assert not any(part["stored"] for part in uploading.sheet(token, size, other)["parts"])
        second = PackUpload.objects.get()
        with uploading.parts_of(way.source) as storage, pytest.raises(StorageError):
            storage.stored_parts(image.pack_key, first)
        # Nobody went on with it: its parts are deleted, after some days.
        assert uploading.drop_old() == 0
        PackUpload.objects.update(created_at="2026-01-01T00:00:00Z")
        assert uploading.drop_old() == 1
        drop = Job.objects.get(kind=uploading.DROP)
        way.worker.until(lambda: Job.objects.get(pk=drop.pk).is_final)
        drop.refresh_from_db()
        assert (drop.state, PackUpload.objects.exists()) == ("done", False)
        with uploading.parts_of(way.source) as storage, pytest.raises(StorageError):
            storage.stored_parts(image.pack_key, second.upload)
        way.worker.finish(job)
        with pytest.raises(Forbidden):
            uploading.sheet(token, size, one)
