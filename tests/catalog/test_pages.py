"""The pages of images and sources."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.actors import Actor
from catalog import caching, images, sources
from catalog.models import CatalogSource, HostCache, HostImage, Image
from hosts.models import Host, HostCapacity, HostStatus
from jobs.models import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from tests.catalog.conftest import Shelf

HTMX = {"HTTP_HX_REQUEST": "true"}
SECRET = "host=ci:s3cret@https://catalog.example.com"


def url(name: str, thing: Any = None) -> str:
    return reverse(f"catalog:{name}", args=[thing.pk] if thing else [])


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


@pytest.fixture
def image(alice: User) -> Image:
    actor = Actor(user=alice)
    source = sources.add_source(actor, name="Catalog", connection=SECRET)
    return images.add_image(
        actor,
        source=source,
        catalog_id="ubuntu",
        version="24.04",
        architecture="arm64",
        type="pvm",
        pack_size_mib=4096,
    )


def test_a_source_is_added_and_its_connection_never_shown(client: Client, alice: User) -> None:
    client.force_login(alice)
    answer = client.post(url("new-source"), {"name": "Catalog", "connection": SECRET})
    assert (answer.status_code, answer["Location"]) == (303, url("images"))
    page = text(client.get(url("images")))
    assert "host=****@https://catalog.example.com" in page
    assert "s3cret" not in page
    again = client.post(url("new-source"), {"name": "catalog", "connection": SECRET}, **HTMX)
    assert again.status_code == 400
    assert "s3cret" not in text(again)


def test_an_image_is_added_tainted_untainted_and_revoked(client: Client, alice: User) -> None:
    client.force_login(alice)
    source = sources.add_source(Actor(user=alice), name="Catalog", connection=SECRET)
    answer = client.post(
        url("new"),
        {
            "source": str(source.pk),
            "catalog_id": "macos",
            "version": "15",
            "architecture": "arm64",
            "type": "macvm",
        },
    )
    assert answer.status_code == 303
    image = Image.objects.get()
    assert client.post(url("taint", image), {"reason": "bad clock"}).status_code == 303
    assert "bad clock" in text(client.get(url("image", image)))
    assert client.post(url("untaint", image)).status_code == 303
    assert not Image.objects.get().tainted_at
    preview = text(client.get(url("revoke", image), **HTMX))
    assert 'value="delete"' in preview
    assert "<html" not in preview
    missing = client.post(url("revoke", image), {"running_vms": "keep"}, **HTMX)
    assert missing.status_code == 422
    client.post(url("revoke", image), {"running_vms": "keep", "reason": "leaked"})
    assert Image.objects.get().revoked_at
    page = text(client.get(url("image", image)))
    assert "leaked" in page
    assert "image.revoked" in page


def test_an_image_says_which_hosts_have_it(client: Client, alice: User, image: Image) -> None:
    client.force_login(alice)
    host = Host.objects.create(name="mac-1", url="http://127.0.0.1:9")
    HostImage.objects.create(
        host=host, catalog_id="UBUNTU", version="24.04", size_mib=4096, seen_at=timezone.now()
    )
    assert "mac-1" in text(client.get(url("image", image)))


def test_who_may_not_see_or_manage_images(
    client: Client, bob: User, audrey: User, image: Image
) -> None:
    client.force_login(bob)
    assert client.get(url("images")).status_code == 403
    assert client.get(url("image", image)).status_code == 404
    assert client.post(url("untaint", image)).status_code == 404
    client.force_login(audrey)
    page = client.get(url("images"))
    assert page.status_code == 200
    assert url("new") not in text(page)
    assert client.get(url("revoke", image)).status_code == 403
    assert client.post(url("new-source"), {"name": "x", "connection": "y"}).status_code == 403
    assert CatalogSource.objects.count() == 1


def test_the_list_costs_the_same_however_long_it_is(
    client: Client,
    alice: User,
    image: Image,
    django_assert_max_num_queries: Callable[..., Any],
) -> None:
    client.force_login(alice)
    with django_assert_max_num_queries(9) as few:
        client.get(url("images"))
    for number in range(20):
        Image.objects.create(
            source=image.source,
            catalog_id=f"ubuntu-{number}",
            version="1",
            architecture="arm64",
            type="pvm",
        )
    with django_assert_max_num_queries(9) as many:
        client.get(url("images"))
    assert len(few) == len(many)
    narrowed = text(client.get(url("images"), {"q": "ubuntu-13"}, **HTMX))
    assert "ubuntu-13" in narrowed
    assert "ubuntu-12" not in narrowed


def test_the_pages_of_a_source(client: Client, shelf: Shelf, audrey: User) -> None:
    """Added, imported from, switched off, and removed when it is empty."""
    client.force_login(shelf.alice.user)
    shelf.store(tags=["latest"], required_roles=["iOS team"], description="For builds")
    page = url("source", shelf.source)
    assert client.post(url("import-source", shelf.source))["Location"] == page
    shelf.run()
    assert "UBUNTU:24.04" in text(client.get(page))
    images_page = text(client.get(url("images")))
    for words in ("role iOS team", "latest", "Packs", "26"):
        assert words in images_page
    image = shelf.image()
    assert "For builds" in text(client.get(url("image", image)))
    form = text(client.get(url("edit", image)))
    assert 'value="latest"' in form
    wish = {"tags": "lts, beta", "minimum_cpus": 2, "minimum_memory_mib": 0, "minimum_disk_gib": 0}
    assert client.post(url("edit", image), wish).status_code == 303
    image = shelf.image()
    assert (image.tags, image.required_roles, image.minimum_cpus) == (["beta", "lts"], [], 2)
    assert client.post(url("verify", image)).status_code == 303
    client.post(url("revoke", image), {"reason": "leaked", "running_vms": "keep"})
    assert url("unrevoke", image) in text(client.get(url("image", image)))
    assert client.post(url("unrevoke", image), {"reason": "no"}).status_code == 303
    assert not shelf.image().revoked_at
    shelf.run()
    assert "Delete pack and metadata" in text(client.get(url("remove", image)))
    assert client.post(url("remove", image), {"objects": "on"}).status_code == 303
    shelf.run()
    assert list(shelf.folder.rglob("*.meta")) == []
    changed = client.post(url("edit-source", shelf.source), {"name": "Old packs"})
    assert changed.status_code == 303
    assert not CatalogSource.objects.get(name="Old packs").active
    assert url("remove-source", shelf.source) in text(client.get(page))
    assert client.post(url("remove-source", shelf.source))["Location"] == url("images")
    assert client.get(page).status_code == 404


def test_an_unreachable_catalog_says_so_on_its_page(client: Client, alice: User) -> None:
    client.force_login(alice)
    source = sources.add_source(
        Actor(user=alice), name="Peer", connection="host=u:s3cret@http://127.0.0.1:9"
    )
    page = text(client.get(f"{url('source', source)}?browse"))
    assert "does not answer" in page
    assert "s3cret" not in page


def test_a_push_and_caching_in_advance_by_page(
    client: Client, shelf: Shelf, audrey: User, settings: Any
) -> None:
    client.force_login(shelf.alice.user)
    shelf.store()
    shelf.bring_in()
    image = shelf.image()
    host = Host.objects.create(name="mac-1", url="http://127.0.0.1:9")
    HostStatus.objects.create(host=host, architecture="arm64")
    HostCapacity.objects.create(host=host, disk_gib_free=500)
    vm = {"host_vm_id": "{1}", "name": "golden", "state": "stopped", "home": "/a/g.pvm"}
    host.listed_vms.create(type="pvm", seen_at=timezone.now(), **vm)
    sources.change_source(shelf.alice, shelf.source, active=False)
    refused = text(client.post(url("push"), {"host": str(host.pk)}))
    assert "There is no storage to push to" in refused
    sources.change_source(shelf.alice, shelf.source, active=True)
    idle = Host.objects.create(name="mac-2", url="http://127.0.0.1:10")
    refused = text(client.post(url("push"), {"host": str(idle.pk)}))
    assert "mac-2 lists no VM that is stopped" in refused
    idle.delete()
    chosen = client.post(url("push"), {"host": str(host.pk)})
    assert chosen["Location"] == url("push-from", host)
    assert "golden" in text(client.get(url("push-from", host)))
    wish = {"source": str(shelf.source.pk), "vm": "{1}", "catalog_id": "ubuntu", "version": "1"}
    wish |= dict.fromkeys(("minimum_cpus", "minimum_memory_mib", "minimum_disk_gib"), "0")
    assert client.post(url("push-from", host), wish).status_code == 303
    assert Job.objects.get(kind="image.push").payload["vm"] == "golden"
    matrix = text(client.get(url("readiness")))
    assert "0 of 1" in matrix
    assert client.get(url("readiness"), **HTMX).status_code == 200
    for page, modal in ((url("in-advance", image), False), (url("image", image), True)):
        address = f"http://testserver{page}"
        wrong = {"at_once": 0}
        again = client.post(url("in-advance", image), wrong, **HTMX, HTTP_HX_CURRENT_URL=address)
        assert ("data-close-modal" in text(again)) == ("modal-title" in text(again)) == modal
    assert f'href="{url("in-advance", image)}"' in matrix
    HostImage.objects.create(
        host=host, catalog_id="OTHER", version="1", size_mib=4096, seen_at=timezone.now()
    )
    HostCache.objects.create(host=host, quota_mib=2048)
    pull = caching.pull(shelf.alice, host, image)
    Job.objects.filter(pk=pull.pk).update(progress=37)
    matrix = text(client.get(url("readiness")))
    assert re.search(r"4 GiB <span class=\"hint\">of 2 GiB, over it", matrix)
    assert "37 %" in matrix
    assert "37 %" in text(client.get(url("image", image)))
    Job.objects.filter(pk=pull.pk).update(state="cancelled")
    HostImage.objects.all().delete()
    form = {"at_once": 2, "not_before": "2099-01-01T22:00", "mib_per_second": 20}
    settings.PUBLIC_URL = ""
    again = client.post(url("in-advance", image), form)
    assert again.status_code == 409
    assert "No limit of bandwidth can be kept: hosts have no address" in text(again)
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    asked = client.post(url("in-advance", image), form)
    assert asked.status_code == 303
    batch = Job.objects.get(kind="batch")
    assert (batch.payload["at_once"], batch.items.count()) == (2, 1)
    assert batch.payload["options"]["not_before"].startswith("2099-01-01T22:00")
    assert batch.payload["options"]["mib_per_second"] == 20
    detail = reverse("hosts:detail", args=[host.pk])
    assert client.post(url("cache-quota", host), {"quota_mib": 2048})["Location"] == detail
    assert "Quota 2 GiB" in text(client.get(detail))
    assert client.post(url("cache-collect", host)).status_code == 303
    client.force_login(audrey)
    assert client.get(url("push")).status_code == 403
    assert client.post(url("cache-quota", host), {}).status_code == 403
    assert client.get(url("readiness")).status_code == 200
