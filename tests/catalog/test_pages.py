"""The pages of images and sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.actors import Actor
from catalog import images, sources
from catalog.models import CatalogSource, HostImage, Image
from hosts.models import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User

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
