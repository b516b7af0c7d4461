"""Files of packages, each kept once under its SHA-256 in `ARTIFACT_DIR`."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from deployments.models import Artifact
from orchestrator.refusals import Conflict, Invalid

PIECE = 1024 * 1024
UNUSED_FOR = timedelta(days=1)  # an artifact that no package has is kept for so long
SWEPT_AT_ONCE = 1000


def path_of(sha256: str) -> Path:
    """Return where the file of a checksum lies."""
    return Path(settings.ARTIFACT_DIR) / sha256[:2] / sha256


def store(stream: BinaryIO, *, limit: int | None = None) -> Artifact:
    """Keep what `stream` gives, read in pieces, and return its artifact.

    Raises `Invalid` beyond `limit` bytes (`ARTIFACT_MAXIMUM_MIB` by default).
    """
    most = settings.ARTIFACT_MAXIMUM_MIB * PIECE if limit is None else limit
    folder = Path(settings.ARTIFACT_DIR)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(dir=folder, prefix="incoming-", delete=False) as file:
        try:
            while piece := stream.read(PIECE):
                size += len(piece)
                if size > most:
                    raise Invalid.field(
                        "file", f"The file is larger than {most // PIECE} MiB, the most allowed."
                    )
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            target = path_of(digest.hexdigest())
            target.parent.mkdir(exist_ok=True, mode=0o700)
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    artifact, _ = Artifact.objects.update_or_create(
        sha256=digest.hexdigest(), defaults={"size": size, "created_at": timezone.now()}
    )
    return artifact


def opened(artifact: Artifact) -> BinaryIO:
    """Open the file. Raises `Conflict` when the store has lost it."""
    try:
        return path_of(artifact.sha256).open("rb")
    except FileNotFoundError:
        raise Conflict(
            f"The file with the SHA-256 {artifact.sha256} is not in ARTIFACT_DIR any more."
            " Import its package again.",
            code="artifact_lost",
        ) from None


def sweep() -> int:
    """Delete artifacts that no package has had for a day; return how many."""
    unused = Artifact.objects.filter(
        deployables__isnull=True, created_at__lt=timezone.now() - UNUSED_FOR
    )
    count = 0
    for artifact in list(unused[:SWEPT_AT_ONCE]):
        # Only if it is still unused: a deployable that was made meanwhile protects the row.
        with suppress(ProtectedError, IntegrityError), transaction.atomic():
            gone, _ = unused.filter(pk=artifact.pk).delete()
            if gone:
                path_of(artifact.sha256).unlink(missing_ok=True)
                count += 1
    return count
