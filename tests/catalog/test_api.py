"""`/api/v2/`: sources, manifests, readiness and caches, by those who may and those who may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from accounts.actors import Actor
from catalog import sources
from catalog.models import HostImage, Image
from hosts.models import Host, HostCapacity, HostStatus
from jobs.models import Job
from tests.api.conftest import Api, is_problem, make_token

if TYPE_CHECKING:
    from accounts.models import User
    from tests.catalog.conftest import Shelf

pytestmark = pytest.mark.django_db


def make_host(name: str, architecture: str = "arm64", free: int = 1000) -> Host:
    host = Host.objects.create(name=name, url=f"http://127.0.0.1:9/{name}")
    HostStatus.objects.filter(host=host).delete()
    HostCapacity.objects.filter(host=host).delete()
    HostStatus.objects.create(host=host, architecture=architecture)
    HostCapacity.objects.create(host=host, disk_gib_free=free)
    return host


def test_sources_and_manifests(shelf: Shelf, audrey: User, bob: User) -> None:
    """A source is changed, imported from and removed; an image described, tagged and found."""
    api = Api(make_token(shelf.alice.user))
    shelf.store(tags=["latest"])
    path = f"sources/{shelf.source.pk}/"
    asked = api.post(f"{path}import/", {})
    assert (asked.status_code, asked.json()["kind"]) == (202, "source.import")
    shelf.run()
    shown = api.get(path).json()
    assert (shown["kind"], shown["image_count"], shown["stored_bytes"]) == ("storage", 1, 26)
    assert "catalog_path" in shown["connection"]
    (image,) = api.get("images/?tag=latest").json()["results"]
    assert (image["tags"], image["pack_bytes"], image["md5"] != "") == (["latest"], 26, True)
    changed = api.patch(f"images/{image['id']}/", {"tags": ["lts"], "required_roles": ["Auditor"]})
    assert (changed.status_code, changed.json()["tags"]) == (200, ["lts"])
    assert api.get("images/?tag=latest").json()["results"] == []
    assert len(Api(make_token(audrey)).get("images/").json()["results"]) == 1
    api.patch(f"images/{image['id']}/", {"required_roles": ["IOS"]})
    assert Api(make_token(audrey)).get("images/").json()["results"] == []
    assert is_problem(Api(make_token(audrey)).get(f"images/{image['id']}/"), 404)
    shelf.run()
    assert shelf.stored(Image.objects.get())["required_roles"] == ["IOS"]
    assert api.post(f"images/{image['id']}/verify/", {}).json()["kind"] == "image.verify"
    body = {"reason": "leaked", "all_architectures": True}
    assert api.post(f"images/{image['id']}/revoke/", body).status_code == 202
    assert is_problem(api.post(f"images/{image['id']}/unrevoke/", {}), 400)
    assert api.post(f"images/{image['id']}/unrevoke/", {"reason": "no"}).status_code == 202
    assert is_problem(api.delete(path), 409)
    removed = api.post(f"images/{image['id']}/remove/", {"objects": True})
    assert removed.json()["result"]["objects"]
    shelf.run()
    assert list(shelf.folder.rglob("*.*")) == []
    assert is_problem(api.get(f"images/{image['id']}/"), 404)
    assert api.patch(path, {"name": "Renamed", "active": False}).json()["active"] is False
    assert is_problem(api.post(f"{path}import/", {}), 409)
    assert is_problem(api.get(f"{path}browse/"), 409)
    assert is_problem(Api(make_token(bob)).post(f"{path}import/", {}), 404)
    assert api.delete(path).status_code == 204
    assert is_problem(api.get(path), 404)
    wrong = {"name": "x", "connection": "provider=aws-s3;bucket=b"}
    answer = api.post("sources/", wrong).json()
    assert "access_key and secret_key" in answer["errors"]["connection"][0]


def test_readiness_quota_and_window(shelf: Shelf, audrey: User) -> None:
    api = Api(make_token(shelf.alice.user))
    shelf.store()
    shelf.bring_in()
    Image.objects.update(pack_size_mib=50 * 1024)
    hosts = [make_host("a"), make_host("b"), make_host("c", "x86_64"), make_host("d", free=1)]
    seen = {"catalog_id": "UBUNTU", "version": "24.04", "seen_at": timezone.now()}
    HostImage.objects.create(host=hosts[0], size_mib=2000, **seen)

    def ready() -> list[str]:
        (row,) = api.get("images/readiness/").json()["results"]
        return [cell["ready"] for cell in row["hosts"]]

    assert ready() == ["cached", "absent", "other", "no_room"]
    HostImage.objects.update(going_since=timezone.now())
    assert ready()[0] == "going"
    HostImage.objects.update(going_since=None)
    path = f"hosts/{hosts[0].pk}/cache"
    assert is_problem(api.post(f"{path}/collect/", {}), 409)
    assert is_problem(api.post(f"{path}/quota/", {}), 400)
    job = api.post(f"{path}/quota/", {"quota_mib": 1000}).json()
    assert Job.objects.get(pk=job["result"]["collect"]).kind == "host.cache_collect"
    assert api.post(f"{path}/quota/", {"quota_mib": None}).json()["result"] == {"collect": None}
    image = str(Image.objects.get().pk)
    path = f"hosts/{hosts[1].pk}/cache/pull/"
    late = {"image": image, "not_after": "2020-01-01T00:00:00Z"}
    assert is_problem(api.post(path, late), 400)
    night = {"image": image, "not_before": "2099-01-01T00:00:00Z"}
    assert api.post(path, night).status_code == 202
    assert ready()[1] == "pulling"
    assert api.get("images/readiness/?catalog_id=none").json()["results"] == []
    assert Api(make_token(audrey)).get("images/readiness/").status_code == 200


def test_a_push_is_asked_by_api(shelf: Shelf, olga: User) -> None:
    host = make_host("mac")
    host.listed_vms.create(
        host_vm_id="{1}",
        name="golden",
        state="stopped",
        type="pvm",
        home="/a/golden.pvm",
        seen_at=timezone.now(),
    )
    api = Api(make_token(olga))
    wish = {"host": "mac", "vm": "golden", "catalog_id": "u", "version": "1", "tags": ["lts"]}
    job = api.post(f"sources/{shelf.source.pk}/push/", wish).json()
    assert (job["kind"], job["subject"]) == ("image.push", f"host:{host.pk}")
    assert is_problem(api.post(f"sources/{shelf.source.pk}/push/", {**wish, "vm": "none"}), 404)
    remote = sources.add_source(
        Actor(user=olga), name="Remote", connection="host=http://127.0.0.1:9"
    )
    assert is_problem(api.post(f"sources/{remote.pk}/push/", wish), 409)
