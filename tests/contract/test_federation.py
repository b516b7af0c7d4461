"""The product as a host of another instance of itself, through the compatible API alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.running import LEASE, SIZE, Site, finished
from tests.support.product import OwnRedis, running_product, until
from tests.support.team import ok

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.product import Product


@pytest.fixture
def outer(site: Site, tmp_path: Path) -> Iterator[Product]:
    """Another instance. It polls quickly, and so knows of changes soon."""
    server = OwnRedis(tmp_path)
    server.start()
    with running_product(tmp_path, server) as product:
        yield product
    server.stop()


def test_an_orchestrator_is_a_host_of_another_one(site: Site, outer: Product) -> None:
    with site.tool("root") as root:
        pair = {"name": "federation", "key": "outer", "secret": "s3cret"}
        key = ok(root.post("/auth/api_keys", json=pair))["encoded"]
    admin = outer.api(outer.token("admin"))
    connection = {"name": "inner", "url": site.product.url, "api_key": key}
    host = ok(admin.post("/hosts/", json=connection))
    assert (host["health"], host["architecture"]) == ("healthy", "arm64")
    # It has as much as all hosts of the inner pool together.
    assert host["capacity"]["cpus"]["total"] == 36
    ok(admin.post("/sources/", json={"name": "c", "connection": "host=u:p@http://127.0.0.1:9"}))
    image = {"source": "c", "catalog_id": "ubuntu-2404", "version": "1.0.0", "type": "pvm"}
    made = ok(admin.post("/images/", json=image | {"architecture": "arm64"}))
    template = {"name": "ubuntu", "images": [made["id"]], "os": "linux"}
    ok(admin.post("/templates/", json=template | SIZE | LEASE))

    prefer = {"Prefer": "wait=60"}
    wanted = {"template": "ubuntu", "name": "federated"}
    vm = ok(admin.post("/vms/", json=wanted, headers=prefer))
    assert (vm["state"], vm["host"]["name"]) == ("running", "inner"), vm
    assert vm["ip_address"]
    # The inner one has the VM too, under the name with the outer one's mark, on a host of its own.
    (inner,) = ok(site.admin.get("/vms/", params={"open": "true"}))["results"]
    assert inner["name"] == vm["host_name"]
    assert inner["host"]["name"] in ("mac-1", "mac-2")
    assert inner["ip_address"] == vm["ip_address"]
    job = ok(site.admin.get(f"/jobs/{inner['job']}/"))
    assert job["state"] == "done"

    ran = ok(
        admin.post(f"/vms/{vm['id']}/execute/", json={"command": "echo hello"}, headers=prefer)
    )
    assert ran["result"]["stdout"] == "hello\n"
    gone = ok(admin.delete(f"/vms/{vm['id']}/", headers=prefer))
    assert gone["state"] == "done"
    assert ok(admin.get(f"/vms/{vm['id']}/"))["state"] == "deleted"
    until(
        lambda: not ok(site.admin.get("/vms/", params={"open": "true"}))["results"],
        30,
        "the inner VM has ended",
    )
    charged = ok(admin.get("/hosts/"))["results"][0]["capacity"]["cpus"]["charged"]
    assert charged == 0
    finished(site)
