"""Images from stored metadata: imported, described, tainted, revoked, verified, deleted."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from accounts.actors import Actor
from accounts.models import AuditEvent
from catalog import images, manifests, metadata, sources
from catalog.models import CatalogSource, Image
from jobs.models import Job
from orchestrator.refusals import Conflict, Forbidden, Invalid

if TYPE_CHECKING:
    from accounts.models import User
    from tests.catalog.conftest import Shelf

pytestmark = pytest.mark.stores


def test_what_is_stored_is_imported_and_imported_again(shelf: Shelf) -> None:
    """Everything of the manifest is taken over; a bad one, or one without its pack, is told of."""
    shelf.store(
        description="Ubuntu for builds",
        tags=["latest", "lts"],
        required_roles=["iOS team"],
        minimum_requirements={"cpu": 2, "memory": 4096, "disk": 20480},
    )
    shelf.store("windows", version="11", architecture="amd64", tainted=True, taint_reason="slow")
    (shelf.folder / "ubuntu/broken.meta").write_text("{")
    shelf.store("lost")
    (shelf.folder / "lost/lost-arm64-24.04.pdpack").unlink()
    job = shelf.bring_in()
    assert (job.state, job.message) == ("done", "2 added, 0 updated, 2 skipped.")
    why = {row["what"]: row["why"] for row in job.result["skipped"]}
    assert why["ubuntu/broken.meta"].endswith("is not JSON.")
    assert "missing" in why["lost/lost-arm64-24.04.meta"]
    image = shelf.image()
    assert (image.tags, image.required_roles) == (["latest", "lts"], ["iOS team"])
    assert (image.minimum_cpus, image.minimum_memory_mib, image.minimum_disk_gib) == (2, 4096, 20)
    assert (image.pack_bytes, image.pack_size_mib, image.architecture) == (26, 1, "arm64")
    assert image.pack_key == "ubuntu/ubuntu-arm64-24.04.pdpack"
    windows = shelf.image("windows")
    assert (windows.architecture, windows.taint_reason) == ("x86_64", "slow")
    images.change(shelf.alice, image, description="Ours")
    shelf.run()
    assert shelf.bring_in().message == "0 added, 2 updated, 2 skipped."
    assert shelf.image().description == "Ours"
    named = shelf.bring_in(catalog_id="ubuntu", version="24.04", architecture="arm64")
    assert (named.state, named.result["updated"]) == ("done", [str(image.pk)])
    absent = shelf.bring_in(catalog_id="debian")
    assert (absent.state, "has no debian" in absent.error) == ("failed", True)


def test_a_change_is_written_over_what_others_stored(shelf: Shelf) -> None:
    shelf.store()
    shelf.store(version="22.04", tags=["latest"])
    shelf.bring_in()
    image, older = shelf.image(version="24.04"), shelf.image(version="22.04")
    images.change(shelf.alice, image, tags=["latest", " beta "], required_claims=["PULL"])
    assert (image.tags, older.tags) == (["beta", "latest"], [])  # `latest` has moved
    assert Image.objects.named("UBUNTU", "latest").get() == image
    shelf.run()
    stored = shelf.stored(image)
    assert (stored["tags"], stored["required_claims"]) == (["beta", "latest"], ["PULL"])
    assert (stored["vendor"], "provider" in stored) == ({"kept": True}, False)
    with pytest.raises(Invalid):
        images.change(shelf.alice, image, tags=["x" * 101])
    with pytest.raises(Invalid, match="cannot be changed"):
        images.change(shelf.alice, image, sha256="")
    # No tag says so any more: the version that is called `latest` it is, and nothing but it.
    images.change(shelf.alice, image, tags=[])
    assert not Image.objects.named("ubuntu", "latest").exists()
    shelf.store(version="latest")
    shelf.bring_in(version="latest")
    assert Image.objects.named("ubuntu", "LATEST").get().version == "latest"


def test_no_import_brings_a_revoked_image_back(shelf: Shelf) -> None:
    """Not after it was deleted here, not in another catalog, not before the metadata says so."""
    shelf.store()
    shelf.store(architecture="x86_64")
    shelf.bring_in()
    image = shelf.image(architecture="arm64")
    job = images.revoke(shelf.alice, image, reason="leaked", all_architectures=True)
    assert len(job.result["images"]) == 2
    assert not Image.objects.usable().exists()
    shelf.bring_in()  # the metadata may not say it yet
    assert not Image.objects.usable().exists()
    shelf.run()
    stored = shelf.stored(image)
    assert (stored["revoked"], stored["revoke_reason"], stored["revoked_by"]) == (
        *(True, "leaked"),
        "alice",
    )
    other = sources.add_source(
        shelf.alice,
        name="Other catalog of the same",
        connection=f"provider=local-storage;catalog_path={shelf.folder}",
    )
    shelf.worker.finish(sources.request_import(shelf.alice, other))
    assert Image.objects.filter(source=other, revoke_reason="leaked").count() == 2
    images.remove(shelf.alice, image)
    meta = shelf.stored(image)
    (shelf.folder / image.metadata_key).write_text(json.dumps({**meta, "revoked": False}))
    shelf.bring_in()
    again = shelf.image(architecture="arm64", source=shelf.source)
    assert (again.pk != image.pk, again.revoke_reason) == (True, "leaked")
    # Somebody revoked it in storage only: the import takes it over.
    mine = shelf.image(architecture="x86_64", source=shelf.source)
    images.unrevoke(shelf.alice, mine, reason="false alarm")
    shelf.bring_in()  # what waits to be written is newer than what is read
    assert not shelf.image(architecture="x86_64", source=shelf.source).revoked_at
    shelf.run()
    (shelf.folder / mine.metadata_key).write_text(
        json.dumps({**shelf.stored(mine), "revoked": True})
    )
    shelf.bring_in()
    assert shelf.image(architecture="x86_64", source=shelf.source).revoked_at


def test_an_administrator_brings_a_revoked_image_back_and_says_why(
    shelf: Shelf, olga: User
) -> None:
    shelf.store()
    shelf.bring_in()
    image = shelf.image()
    images.revoke(Actor(user=olga), image, reason="leaked")
    with pytest.raises(Forbidden, match="administrator"):
        images.unrevoke(Actor(user=olga), image, reason="mine")
    with pytest.raises(Invalid, match="why"):
        images.unrevoke(shelf.alice, image, reason=" ")
    images.unrevoke(shelf.alice, image, reason="it was another file")
    with pytest.raises(Conflict, match="not revoked"):
        images.unrevoke(shelf.alice, image, reason="again")
    assert Image.objects.usable().get() == image
    event = AuditEvent.objects.get(action="image.unrevoked")
    assert event.data == {
        "before": {"revoked": True, "revoke_reason": "leaked"},
        "after": {"revoked": False, "revoke_reason": ""},
        "reason": "it was another file",
    }
    shelf.run()
    assert shelf.stored(image)["revoked"] is False


def test_a_storage_that_is_away_learns_of_a_taint_later(shelf: Shelf) -> None:
    shelf.store()
    shelf.bring_in()
    image = shelf.image()
    away = shelf.folder.rename(shelf.folder.with_name("away"))
    shelf.folder.touch()  # a file where the folder was
    images.set_taint(shelf.alice, image, True, reason="bad clock")
    job = Job.objects.open().get(kind=metadata.WRITE)
    shelf.worker.until(lambda: Job.objects.get(pk=job.pk).failures > 0)
    shelf.folder.unlink()
    away.rename(shelf.folder)
    Job.objects.filter(pk=job.pk).update(run_after=job.created_at)
    shelf.run()
    assert shelf.stored(image)["taint_reason"] == "bad clock"
    images.set_taint(shelf.alice, image, False)
    shelf.run()
    assert shelf.stored(image)["tainted"] is False


def test_a_pack_is_verified(shelf: Shelf) -> None:
    meta = shelf.store(pack=b"p" * 3_000_000)
    shelf.bring_in()
    image = shelf.image()
    Image.objects.update(sha256=hashlib.sha256(b"p" * 3_000_000).hexdigest())

    def verify() -> Job:
        return shelf.worker.finish(metadata.verify(shelf.alice, shelf.image()))

    assert verify().state == "done"
    assert shelf.image().verified_at
    pack = shelf.folder / image.pack_key
    pack.write_bytes(b"p" * 2_999_999 + b"q")
    assert "SHA-256 is not the manifest’s" in verify().error.replace("'", "’")
    Image.objects.update(sha256="")
    assert "MD5" in verify().error
    pack.write_bytes(b"short")
    assert verify().error == "The pack has 5 bytes, and the manifest says 3000000."
    assert shelf.image().verify_problem.startswith("The pack has 5")
    pack.unlink()
    assert "is not in the storage" in verify().error
    assert meta["compressed_size"] == 3_000_000


def test_an_image_is_deleted_with_its_objects_by_choice(shelf: Shelf) -> None:
    shelf.store()
    shelf.store(version="22.04")
    shelf.bring_in()
    with pytest.raises(Conflict, match="2 images"):
        sources.remove_source(shelf.alice, shelf.source)
    image = shelf.image(version="24.04")
    job = images.remove(shelf.alice, image, objects=True)
    assert job.result["objects"]
    with pytest.raises(Conflict, match="was deleted"):
        images.revoke(shelf.alice, image)
    shelf.run()
    assert sorted(path.name for path in (shelf.folder / "ubuntu").iterdir()) == [
        "ubuntu-arm64-22.04.meta",
        "ubuntu-arm64-22.04.pdpack",
    ]
    images.remove(shelf.alice, shelf.image(version="22.04"))
    assert len(list((shelf.folder / "ubuntu").iterdir())) == 2
    sources.remove_source(shelf.alice, shelf.source)
    gone = CatalogSource.objects.get(pk=shelf.source.pk)
    assert (gone.connection, CatalogSource.objects.visible_to(shelf.alice).count()) == ("", 0)


def test_who_an_image_is_open_to(shelf: Shelf, audrey: User, charlie: User) -> None:
    """An Auditor sees images, and of those with requirements the ones that she meets."""
    shelf.store("open")
    shelf.store("auditors", required_roles=["ADMINISTRATOR", "auditor"])
    shelf.store("others", required_roles=["IOS_TEAM"])
    shelf.store("claimed", required_claims=["IMAGES_VIEW"])
    shelf.store("both", required_roles=["auditor"], required_claims=["PULL_XCODE"])
    shelf.bring_in()

    def seen(user: User) -> set[str]:
        rows = Image.objects.visible_to(Actor(user=user))
        return {image.catalog_id for image in rows}

    assert seen(audrey) == {"OPEN", "AUDITORS", "CLAIMED"}
    assert seen(charlie) == set()
    assert len(seen(shelf.alice.user)) == 5


def test_what_is_no_manifest() -> None:
    good = {"catalog_id": "a", "version": "1", "architecture": "aarch64", "type": "macvm"}
    read = manifests.from_values(
        {**good, "pack_path": "../../etc/passwd", "size": 5}, key="a/a.meta"
    )
    assert (read.path, read.pack_file, read.architecture) == ("a", "passwd", "arm64")
    wild = {"tags": "x", "revoked": "yes", "minimum_requirements": [], "size": -1, "sha256": "z"}
    assert manifests.from_values({**good, **wild}).fields["pack_bytes"] is None
    for wrong in ([], {**good, "type": "box"}, {**good, "architecture": "mips"}, {}):
        with pytest.raises(manifests.BadManifest):
            manifests.from_values(wrong)
    assert manifests.base_name("../Mac OS", "15/1", "arm64") == "___mac_os-arm64-15_1"
