"""Real storages for tests, each on loopback: a folder, moto for S3, Azurite, an Artifactory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
import pytest
from azure.storage.blob import ContainerClient

from tests.support.artifactory import artifactory
from tests.support.product import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
AZURITE_NAME = "devstoreaccount1"
# The key that Azurite documents; it opens nothing else.
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@contextmanager
def _process(command: list[str], url: str, **environment: str) -> Iterator[None]:
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    ) as process:

        def answers() -> bool:
            assert process.poll() is None, f"{command[0]} ended."
            try:
                httpx.get(url, timeout=2)
            except httpx.HTTPError:
                return False
            return True

        try:
            until(answers, 30, f"{url} answers")
            yield
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def minio() -> Iterator[str]:
    """A bucket `vms` on moto's server; gives the connection string."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, f"http://127.0.0.1:{port}/"):
        boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="AK7",
            aws_secret_access_key="sk-secret-7",
        ).create_bucket(Bucket="vms")
        yield (
            f"provider=minio;endpoint=127.0.0.1:{port};use_ssl=false;bucket=vms;"
            "access_key=AK7;secret_key=sk-secret-7"
        )


@contextmanager
def azurite() -> Iterator[str]:
    """A container `vms` on Azurite; gives the connection string. Skips without it."""
    found = subprocess.run(
        [ROOT / "scripts/azurite"], capture_output=True, text=True, timeout=180, check=False
    )
    if found.returncode:
        pytest.skip(f"Azurite is not to be had: {found.stderr.strip()[-200:]}")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(found.stdout.strip(), "--blobHost", "127.0.0.1", "--blobPort", str(port)),
            *("--location", folder, "--silent", "--skipApiVersionCheck", "--disableTelemetry"),
        ]
        endpoint = f"http://127.0.0.1:{port}/{AZURITE_NAME}"
        with _process(command, endpoint):
            ContainerClient(
                endpoint,
                "vms",
                credential={"account_name": AZURITE_NAME, "account_key": AZURITE_KEY},
            ).create_container()
            yield (
                f"provider=azure-storage-account;storage_account_name={AZURITE_NAME};"
                f"storage_account_key={AZURITE_KEY};container_name=vms;endpoint={endpoint}"
            )


@contextmanager
def own_artifactory() -> Iterator[str]:
    with artifactory() as made:
        yield f"provider=artifactory;url={made.url};repo={made.repo};access_key={made.token}"


@contextmanager
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as path:
        yield f"provider=local-storage;catalog_path={path}"


MAKERS = {
    "local-storage": folder,
    "minio": minio,
    "azure-storage-account": azurite,
    "artifactory": own_artifactory,
}
