"""The catalog and catalog managers: shapes, who may do what, and that no secret goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actors import Actor
from accounts.key_pairs import create_key_pair, encoded
from catalog import handing, sources
from catalog.models import CatalogSource, HostImage, Image, ImageLabel
from hosts.models import Host, HostStatus, HostVM
from jobs.models import BatchItem, Job
from tests.catalog.conftest import shelf  # noqa: F401 - a fixture
from tests.contract.conftest import Tool, is_empty, is_error, is_unauthorized
from vms.models import Grant, Template, VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.catalog.conftest import Shelf

pytestmark = pytest.mark.django_db
SECRET = "x9SuperSecretKeyLm"
S3 = f"provider=aws-s3;bucket=vm-images;region=eu-west-1;access_key=AKIASECRET;secret_key={SECRET}"
ONE = "/catalog/macos-xcode/16.2/arm64"


@pytest.fixture
def storage(alice: User) -> CatalogSource:
    return sources.add_source(Actor(user=alice), name="images", connection=S3)


def make_image(source: CatalogSource, version: str = "16.2", **fields: Any) -> Image:
    labels = fields.pop("labels", [])
    values = {"catalog_id": "macos-xcode", "architecture": "arm64", "type": "macvm", **fields}
    image = Image.objects.create(
        source=source, version=version, path="macos-xcode", pack_size_mib=10240, **values
    )
    for kind, name in labels:
        ImageLabel.objects.create(image=image, kind=kind, name=name)
    return image


@pytest.fixture
def image(storage: CatalogSource) -> Image:
    return make_image(
        storage,
        description="Xcode 16.2",
        pack_file="macos-xcode-arm64-16.2.pdpack",
        metadata_file="macos-xcode-arm64-16.2.meta",
        pack_bytes=10737418240,
        minimum_cpus=4,
        minimum_memory_mib=8192,
        labels=[("tag", "latest")],
    )


def test_the_list_is_an_array_of_objects_with_one_key(
    admin: Tool, image: Image, storage: CatalogSource
) -> None:
    make_image(storage, "15.0")
    make_image(storage, "24.04", catalog_id="ubuntu", type="pvm")
    response = admin("get", "/catalog")
    assert response.status_code == 200
    groups = response.json()
    assert [list(group) for group in groups] == [["MACOS-XCODE"], ["UBUNTU"]]
    newest = next(one for one in groups[0]["MACOS-XCODE"] if one["version"] == "16.2")
    assert newest == {
        "name": "macos-xcode-arm64-16.2",
        "id": str(image.pk),
        "catalog_id": "MACOS-XCODE",
        "description": "Xcode 16.2",
        "architecture": "arm64",
        "version": "16.2",
        "type": "macvm",
        "tags": ["latest"],
        "size": 10737418240,
        "pack_size": 10240,
        "path": "macos-xcode",
        "pack_filename": "macos-xcode-arm64-16.2.pdpack",
        "metadata_filename": "macos-xcode-arm64-16.2.meta",
        "provider": {
            "type": "aws-s3",
            "meta": {
                "bucket": "vm-images",
                "region": "eu-west-1",
                "access_key": "****",
                "secret_key": "****",
            },
        },
        "created_at": newest["created_at"],
        "updated_at": newest["created_at"],
        "download_count": 0,
        "minimum_requirements": {"cpu": 4, "memory": 8192, "disk": 0},
    }
    assert [list(group) for group in admin("get", "/catalog", X_Filter="type=pvm").json()] == [
        ["UBUNTU"]
    ]
    versions = admin("get", "/catalog/MACOS-Xcode").json()
    assert [one["version"] for one in versions] == ["15.0", "16.2"]
    assert admin("get", "/catalog/nothing").json() == []
    assert len(admin("get", "/catalog/macos-xcode/16.2").json()) == 1
    for path in (ONE, "/catalog/macos-xcode/latest/aarch64", "/catalog/macos-xcode/16.2/ARM64"):
        assert admin("get", path).json()["id"] == str(image.pk)
    for path in ("/catalog/macos-xcode/9/arm64", "/catalog/macos-xcode/16.2/x86_64"):
        assert is_error(admin("get", path), 404)


def test_storage_keys_are_told_to_nobody(admin: Tool, image: Image, storage: CatalogSource) -> None:
    headers = {"X_INTERNAL_API_CLIENT": "true", "X_SOURCE": "CATALOG_MANAGER_REQUEST"}
    for path in ("/catalog", ONE, f"{ONE}/download", "/catalog-managers"):
        response = admin("get", path, **headers)
        assert response.status_code == 200
        for secret in (SECRET, "AKIASECRET"):
            assert secret.encode() not in response.content


def test_who_may_not_see_images_sees_those_of_their_templates(
    developer: Tool, bob: User, charlie: User, image: Image, tool_of: Callable[..., Tool]
) -> None:
    assert developer("get", "/catalog").json() == []
    assert is_error(developer("get", ONE), 404)
    template = Template.objects.create(
        name="xcode",
        cpus=1,
        memory_mib=512,
        disk_gib=5,
        default_lease_seconds=60,
        maximum_lease_seconds=60,
    )
    template.images.add(image)
    Grant.objects.create(template=template, user=bob, level="use")
    shown = developer("get", ONE).json()
    assert shown["version"] == "16.2"
    assert "provider" not in shown
    assert is_error(tool_of(charlie)("get", ONE), 404)
    for method, path, body in [
        ("patch", f"{ONE}/taint", None),
        ("patch", f"{ONE}/untaint", None),
        ("patch", f"{ONE}/revoke", None),
        ("patch", f"{ONE}/tags", {"tags": ["x"]}),
        ("delete", f"{ONE}/roles", {"required_roles": ["x"]}),
        ("put", f"{ONE}/metadata", {"description": "x"}),
        ("delete", ONE, None),
        ("delete", "/catalog/macos-xcode", None),
        ("post", "/catalog", {"catalog_id": "x"}),
        ("put", "/catalog/import", {"catalog_id": "x"}),
        ("post", "/catalog-managers", {"name": "x", "url": "https://c.example"}),
        ("delete", "/cache", None),
        ("delete", "/catalog/cache/x/1", None),
    ]:
        assert is_unauthorized(developer(method, path, body)), (method, path)
    assert is_unauthorized(developer("get", "/cache"))
    image.refresh_from_db()
    assert not (image.tainted_at or image.revoked_at or image.removed_at)


def test_taint_and_revoke(admin: Tool, image: Image) -> None:
    tainted = admin("patch", f"{ONE}/taint", {"reason": "CVE"})
    assert tainted.status_code == 200
    shown = tainted.json()
    assert (shown["tainted"], shown["tainted_by"], shown["taint_reason"]) == (True, "alice", "CVE")
    assert is_error(admin("patch", f"{ONE}/taint"), 400)
    told = admin("get", f"{ONE}/download")
    assert is_error(told, 400)
    assert told.json()["message"] == "Manifest is tainted"
    # Consoles send `null` as the body.
    assert "tainted" not in admin("patch", f"{ONE}/untaint", "null").json()
    assert admin("get", f"{ONE}/download").status_code == 200

    revoked = admin("patch", f"{ONE}/revoke", "null").json()
    assert (revoked["revoked"], revoked["revoked_by"]) == (True, "alice")
    assert revoked["revoked_at"].endswith("Z")
    for path in (f"{ONE}/revoke", f"{ONE}/taint"):
        assert is_error(admin("patch", path), 403)
    told = admin("get", f"{ONE}/download")
    assert is_error(told, 403)
    assert told.json()["message"] == "Manifest is revoked"
    assert is_error(admin("patch", "/catalog/macos-xcode/9/arm64/revoke"), 404)


def test_roles_claims_tags_and_metadata(admin: Tool, image: Image) -> None:
    def change(method: str, path: str, **body: Any) -> dict[str, Any]:
        response = admin(method, f"{ONE}/{path}", body)
        assert response.status_code == 200, response.content
        return response.json()

    assert change("patch", "roles", required_roles=["IOS_TEAM"])["required_roles"] == ["IOS_TEAM"]
    both = change("patch", "roles", required_roles=["ANDROID"])["required_roles"]
    assert both == ["ANDROID", "IOS_TEAM"]
    assert change("delete", "roles", required_roles=["android"])["required_roles"] == ["IOS_TEAM"]
    assert change("patch", "claims", required_claims=["X"])["required_claims"] == ["X"]
    assert "required_claims" not in change("delete", "claims", required_claims=["X"])
    assert change("patch", "tags", tags=["lts"])["tags"] == ["latest", "lts"]
    assert change("delete", "tags", tags=["latest"])["tags"] == ["lts"]
    shown = change("put", "metadata", description="new", tags=["a"], required_roles=[])
    assert (shown["description"], shown["tags"], "required_roles" in shown) == ("new", ["a"], False)
    assert is_error(admin("patch", f"{ONE}/tags", {"tags": []}), 400)
    assert is_error(admin("put", f"{ONE}/metadata", {}), 400)
    assert is_error(admin("patch", f"{ONE}/connection", {"connection": S3}), 501)


def test_a_claim_of_the_wire_opens_an_image(
    tool_of: Callable[..., Tool], audrey: User, image: Image
) -> None:
    auditor = tool_of(audrey)
    ImageLabel.objects.create(image=image, kind="claim", name="CREATE_USER")
    assert is_error(auditor("get", ONE), 404)
    ImageLabel.objects.create(image=image, kind="claim", name="LIST_USER")
    assert auditor("get", ONE).status_code == 200


def test_deleting_from_the_catalog(admin: Tool, image: Image, storage: CatalogSource) -> None:
    make_image(storage, "15.0")
    assert is_empty(admin("delete", f"{ONE}?clean_remote=false"))
    assert is_error(admin("get", ONE), 404)
    assert not Job.objects.filter(kind__contains="delet", subject=f"image:{image.pk}").exists()
    other = Image.objects.get(version="15.0")
    assert is_empty(admin("delete", "/catalog/macos-xcode"))
    other.refresh_from_db()
    assert other.removed_at
    assert Job.objects.open().filter(subject=f"image:{other.pk}").exists()  # its objects go, too
    assert is_error(admin("delete", "/catalog/macos-xcode"), 404)


def test_a_record_is_taken_into_the_storage_that_it_names(
    admin: Tool, storage: CatalogSource, alice: User
) -> None:
    record = {
        "catalog_id": "ubuntu",
        "version": "24.04",
        "architecture": "amd64",
        "type": "pvm",
        "path": "ubuntu",
        "pack_path": "ubuntu.pdpack",
        "size": 1024,
        "provider": {"type": "aws-s3", "meta": {"bucket": "vm-images", "secret_key": "theirs"}},
    }
    made = admin("post", "/catalog", record)
    assert made.status_code == 200
    assert (made.json()["architecture"], made.json()["catalog_id"]) == ("x86_64", "UBUNTU")
    assert Image.objects.get(catalog_id="ubuntu").source == storage
    assert is_error(admin("post", "/catalog", record | {"type": "iso"}), 400)
    elsewhere = record | {"provider": {"type": "aws-s3", "meta": {"bucket": "another"}}}
    assert is_error(admin("post", "/catalog", elsewhere), 400)
    sources.add_source(
        Actor(user=alice), name="more", connection=S3.replace("vm-images", "more-images")
    )
    ambiguous = admin("post", "/catalog", {k: v for k, v in record.items() if k != "provider"})
    assert is_error(ambiguous, 400)
    assert "2 of 2" in ambiguous.json()["message"]


def test_an_import_is_a_job_that_reads_the_storage(
    shelf: Shelf,  # noqa: F811
    tool_of: Callable[..., Tool],
    alice: User,
) -> None:
    admin = tool_of(alice)
    shelf.store()
    body = {
        "catalog_id": "ubuntu",
        "version": "24.04",
        "architecture": "aarch64",
        "connection": "provider=local-storage",
    }
    asked = admin("put", "/catalog/import", body)
    assert asked.status_code == 202  # the front holds the client until the job has ended
    ended = asked["X-Orchestrator-Wait"].partition("then=")[2]
    assert is_error(admin("get", ended), 404)
    shelf.run()
    image = Image.objects.get(catalog_id__iexact="ubuntu")
    assert admin("get", ended).json() == {"id": str(image.pk)}

    missing = admin("put", "/catalog/import", body | {"version": "1"})
    shelf.run()
    refused = admin("get", missing["X-Orchestrator-Wait"].partition("then=")[2])
    assert is_error(refused, 400)
    assert "import" in refused.json()["message"]
    assert is_error(admin("put", "/catalog/import-vm", body), 501)


def test_a_ticket_gets_a_host_one_download(
    shelf: Shelf,  # noqa: F811
    stranger: Tool,
    bob: User,
) -> None:
    shelf.store()
    shelf.bring_in()
    shelf.run()
    image = Image.objects.get()
    host = Host.objects.create(name="mac-1", url="http://10.0.0.1:3080/api")
    path = "/catalog/ubuntu/24.04/arm64/download"
    tool = Tool(X_Api_Key=handing.issue(image, host))
    assert is_unauthorized(tool("get", "/catalog/ubuntu/24.04/x86_64/download"))
    assert is_unauthorized(tool("get", "/catalog/ubuntu/24.04/arm64"))
    assert is_unauthorized(tool("get", "/auth/users"))
    got = tool("get", path)
    assert got.status_code == 200
    assert got.json()["provider"]["type"] == "local-storage"
    assert got.json()["download_count"] == 0
    assert Image.objects.get().downloads == 1
    assert is_unauthorized(tool("get", path))  # once
    assert is_unauthorized(stranger("get", path))

    other = Tool(X_Api_Key=handing.issue(image, host))
    Host.objects.filter(pk=host.pk).update(removed_at="2026-01-01T00:00:00Z")
    assert is_unauthorized(other("get", path))


def test_a_pull_asks_for_a_machine_as_a_create_does(
    developer: Tool, bob: User, image: Image, alice: User
) -> None:
    template = Template.objects.create(
        name="xcode",
        cpus=1,
        memory_mib=512,
        disk_gib=5,
        default_lease_seconds=60,
        maximum_lease_seconds=60,
    )
    template.images.add(image)
    body = {
        "catalog_id": "macos-xcode",
        "machine_name": "build-430",
        "owner": "ci",
        "path": "/Users/ci/Parallels",
        "connection": "host=ci@example.com:pw@https://catalog.example:443",
        "start_after_pull": True,
    }
    assert is_error(developer("put", "/catalog/pull/async", body), 404)
    Grant.objects.create(template=template, user=bob, level="use")
    asked = developer("put", "/catalog/pull/async", body)
    assert asked.status_code == 202
    assert asked.json()["state"] == "pending"
    vm = VirtualMachine.objects.get(name="build-430")
    assert vm.requested_by == bob
    assert asked.json()["id"] == str(vm.create_job.pk)
    held = developer("post", "/catalog/pull", body | {"machine_name": "build-431"})
    assert held.status_code == 202
    assert "then=/api/v1/ended/pull/" in held["X-Orchestrator-Wait"]
    assert is_error(developer("put", "/catalog/pull", body | {"machine_name": ""}), 400)
    remote = sources.add_source(Actor(user=alice), name="hub", connection="host=https://c.example")
    path = f"/catalog-managers/{remote.pk}/catalog/pull"
    assert is_error(developer("put", path, body), 404)  # Bob sees no catalog managers


def test_a_push_is_sent_to_the_host_that_has_the_machine(
    admin: Tool, storage: CatalogSource, developer: Tool
) -> None:
    body: dict[str, Any] = {
        "local_path": "/Users/ci/Parallels/golden.macvm",
        "catalog_id": "macos-xcode",
        "version": "16.3",
        "architecture": "arm64",
        "connection": "host=root:pw@https://catalog.example;provider=aws-s3;bucket=vm-images;"
        "region=eu-west-1;access_key=AKIATHEIRS;secret_key=theirs",
        "required_roles": ["IOS_TEAM"],
        "tags": ["beta"],
        "compress_pack": True,
        "minimum_requirements": {"cpu": 4, "memory": 8192, "disk": 2048},
    }
    assert is_error(admin("post", "/catalog/push/async", body), 404)
    for number in range(2):
        host = Host.objects.create(name=f"mac-{number}", url=f"http://10.0.0.{number}:3080/api")
        HostStatus.objects.create(host=host, health="healthy", architecture="arm64")
        HostVM.objects.create(
            host=host,
            host_vm_id=f"{{vm-{number}}}",
            name="golden",
            state="stopped",
            type="macvm",
            home=body["local_path"],
            seen_at="2026-01-01T00:00:00Z",
        )
    assert is_error(admin("post", "/catalog/push/async", body), 400)  # two have such a one
    asked = admin("post", "/catalog/push/async", body | {"host_id": "mac-1"})
    assert asked.status_code == 202
    assert (asked.json()["state"], asked.json()["job_type"]) == ("pending", "catalog")
    job = Job.objects.get(pk=asked.json()["id"])
    assert job.subject == f"host:{host.pk}"
    assert job.payload["source"] == str(storage.pk)
    assert "theirs" not in str(job.payload)
    by_id = body | {"uuid": "{vm-0}", "version": "16.4"}
    held = admin("post", "/catalog/push", by_id)
    assert held.status_code == 202
    assert "then=/api/v1/catalog-ended/push/" in held["X-Orchestrator-Wait"]
    assert is_unauthorized(developer("post", "/catalog/push", body))
    assert is_error(admin("post", "/catalog/push", body | {"local_path": ""}), 400)


def test_other_catalogs_are_managed_and_their_login_never_told(admin: Tool) -> None:
    body = {
        "name": "hub",
        "url": "https://catalog.example:443",
        "internal": False,
        "active": True,
        "authentication_method": "credentials",
        "username": "ci@example.com",
        "password": SECRET,
        "api_key": "",
        "global": True,
        "required_claims": [],
    }
    made = admin("post", "/catalog-managers", body)
    assert made.status_code == 200
    manager = made.json()
    assert manager == {
        "id": manager["id"],
        "name": "hub",
        "url": "https://catalog.example:443",
        "internal": False,
        "active": True,
        "authentication_method": "credentials",
        "username": "ci@example.com",
        "global": True,
        "required_claims": [],
        "owner_id": manager["owner_id"],
        "created_at": manager["created_at"],
        "updated_at": manager["updated_at"],
    }
    path = f"/catalog-managers/{manager['id']}"
    assert admin("get", "/catalog-managers").json() == [manager]
    assert admin("get", path).json() == admin("get", "/catalog-managers/HUB").json() == manager
    changed = admin("put", path, {"name": "hub2", "active": False, "url": body["url"]})
    assert (changed.json()["name"], changed.json()["active"]) == ("hub2", False)
    source = CatalogSource.objects.get()
    assert SECRET in source.connection
    # With another address the login that we keep would go there.
    assert is_error(admin("put", path, {"url": "https://evil.example"}), 400)
    keyed = admin("put", path, {"url": "https://new.example", "api_key": "a2V5OnNlY3JldA=="})
    assert keyed.json()["authentication_method"] == "api_key"
    assert "username" not in keyed.json()
    for wrong in ({"url": ""}, {"name": ""}, {"password": "a;b"}, {"required_claims": ["X"]}):
        assert is_error(admin("post", "/catalog-managers", body | {"name": "x"} | wrong), 400)
    assert is_error(admin("post", "/catalog-managers", body | {"name": "hub2"}), 400)  # taken
    assert is_error(admin("get", f"{path}/catalog"), 400)  # it is switched off
    assert is_empty(admin("delete", path), 200)
    assert is_error(admin("get", path), 404)
    assert is_error(admin("get", "/catalog-managers/nothing/catalog"), 404)


def test_another_catalog_is_browsed_by_this_very_api(
    transactional_db: None, live_server: Any, alice: User, tool_of: Callable[..., Tool]
) -> None:
    admin = tool_of(alice)
    storage = sources.add_source(Actor(user=alice), name="images", connection=S3)
    make_image(storage, pack_file="x.pdpack")
    make_image(storage, "15.0", pack_file="y.pdpack", tainted_at="2026-01-01T00:00:00Z")
    create_key_pair(Actor(user=alice), name="k", key="hub", secret="s3cret", scopes=["read"])
    body = {"name": "hub", "url": live_server.url, "api_key": encoded("HUB", "s3cret")}
    manager = admin("post", "/catalog-managers", body).json()["id"]
    path = f"/catalog-managers/{manager}/catalog"

    [group] = admin("get", path).json()
    assert {one["version"] for one in group["MACOS-XCODE"]} == {"16.2", "15.0"}
    [tainted] = admin("get", f"{path}/macos-xcode/15.0").json()
    assert tainted["tainted"] is True
    one = admin("get", f"{path}/macos-xcode/16.2/arm64").json()
    assert (one["type"], one["pack_filename"]) == ("macvm", "x.pdpack")
    assert is_error(admin("get", f"{path}/macos-xcode/16.2/x86_64"), 404)
    assert admin("get", f"{path}/nothing").json() == []
    # What is not here cannot be changed from here.
    assert is_error(admin("patch", f"{path}/macos-xcode/16.2/arm64/taint"), 404)
    here = make_image(CatalogSource.objects.get(pk=manager))
    assert admin("patch", f"{path}/macos-xcode/16.2/arm64/taint").status_code == 200
    here.refresh_from_db()
    assert here.tainted_at
    assert not Image.objects.get(source=storage, version="16.2").tainted_at


def test_the_caches_of_all_hosts_look_like_one(admin: Tool, storage: CatalogSource) -> None:
    hosts = []
    for number in range(2):
        host = Host.objects.create(name=f"mac-{number}", url=f"http://10.0.0.{number}:3080/api")
        HostStatus.objects.create(host=host, health="healthy", architecture="arm64")
        hosts.append(host)
    for host, version in [(hosts[0], "16.2"), (hosts[1], "16.2"), (hosts[1], "15.0")]:
        HostImage.objects.create(
            host=host,
            catalog_id="MACOS-XCODE",
            version=version,
            architecture="arm64",
            size_mib=10240,
            type="macvm",
            seen_at="2026-01-01T00:00:00Z",
        )
    for path in ("/cache", "/catalog/cache"):
        shown = admin("get", path)
        assert shown.status_code == 200
        assert shown.json()["total_size"] == 30720
        assert [one["version"] for one in shown.json()["manifests"]] == ["15.0", "16.2"]
        assert shown.json()["manifests"][1]["cache_used_count"] == 2
    assert is_empty(admin("delete", "/catalog/cache/macos-xcode/16.2"))
    assert set(BatchItem.objects.values_list("name", flat=True)) == {"mac-0", "mac-1"}
    assert is_error(admin("delete", "/cache/nothing"), 404, diagnostics=True)
    assert is_empty(admin("delete", "/cache"))
    assert Job.objects.filter(kind="batch").count() == 2
