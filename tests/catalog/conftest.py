"""A storage with packs in it, and a source that reads it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from accounts.actors import Actor
from catalog import sources
from catalog.models import CatalogSource, Image
from tests.vms.conftest import Worker

if TYPE_CHECKING:
    from accounts.models import User
    from jobs.models import Job


@dataclass
class Shelf:
    """A local storage as a source, with Alice who manages it and a worker."""

    folder: Path
    source: CatalogSource
    alice: Actor
    worker: Worker

    def store(self, name: str = "ubuntu", **values: Any) -> dict[str, Any]:
        """Put a pack with its metadata there, as a host that pushed it would."""
        version, architecture = values.get("version", "24.04"), values.get("architecture", "arm64")
        base = f"{name}-{architecture}-{version}"
        pack = values.pop("pack", f"pack of {base}".encode())
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{base}.pdpack").write_bytes(pack)
        meta = {
            "catalog_id": name.upper(),
            "version": version,
            "architecture": architecture,
            "type": "pvm",
            "pack_path": f"{base}.pdpack",
            "compressed_checksum": hashlib.md5(pack).hexdigest(),
            "compressed_size": len(pack),
            "provider": {"type": "aws-s3", "meta": {"secret_key": "of-who-pushed"}},
            "vendor": {"kept": True},
            **values,
        }
        (folder / f"{base}.meta").write_text(json.dumps(meta))
        return meta

    def stored(self, image: Image) -> dict[str, Any]:
        """Return the metadata as it is stored now."""
        found: dict[str, Any] = json.loads((self.folder / image.metadata_key).read_text())
        return found

    def run(self) -> None:
        """Let every job that is open end."""
        from jobs.models import Job

        self.worker.until(lambda: not Job.objects.open().exists())

    def bring_in(self, **named: str) -> Job:
        return self.worker.finish(sources.request_import(self.alice, self.source, **named))

    def image(self, name: str = "ubuntu", **named: Any) -> Image:
        return (
            Image.objects.present().select_related("source").get(catalog_id__iexact=name, **named)
        )


@pytest.fixture
def shelf(transactional_db: None, alice: User, tmp_path: Path, settings: Any) -> Shelf:
    settings.CATALOG_FOLDERS = [tmp_path]
    actor = Actor(user=alice)
    folder = tmp_path / "packs"
    source = sources.add_source(
        actor, name="Packs", connection=f"provider=local-storage;catalog_path={folder}"
    )
    folder.mkdir()
    return Shelf(folder, source, actor, Worker())
