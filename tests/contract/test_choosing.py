"""Which template stands for an image that a tool asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from accounts.actors import Actor
from catalog.models import CatalogSource, Image, ImageLabel
from compat.machines.creating import template_of
from orchestrator.refusals import NotFound
from vms.models import Grant, Template

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def image() -> Callable[..., Image]:
    source = CatalogSource.objects.create(name="catalog", connection="host=http://127.0.0.1:1")

    def make(version: str, architecture: str = "arm64", *tags: str) -> Image:
        made = Image.objects.create(
            source=source,
            catalog_id="Ubuntu",
            version=version,
            architecture=architecture,
            type="pvm",
        )
        for tag in tags:
            ImageLabel.objects.create(image=made, kind=ImageLabel.Kind.TAG, name=tag)
        return made

    return make


def template(name: str, *images: Image, user: User | None = None, clone_of: str = "") -> Template:
    made = Template.objects.create(
        name=name,
        clone_of=clone_of,
        cpus=1,
        memory_mib=512,
        disk_gib=5,
        default_lease_seconds=60,
        maximum_lease_seconds=60,
    )
    made.images.set(images)
    if user:
        Grant.objects.create(template=made, user=user)
    return made


def test_the_template_that_one_may_use(bob: User, alice: User, image: Callable[..., Image]) -> None:
    old, new = image("1"), image("2")
    pc = image("2", "x86_64")
    one = template("one", old, user=bob)
    template("not his", new, user=alice)
    both = template("both", new, pc, user=bob)
    base = template("base", user=bob, clone_of="golden")
    actor = Actor(user=bob)

    def chosen(version: str, architecture: str = "", name: str = "UBUNTU") -> Template:
        return template_of(actor, name, version, architecture)

    assert chosen("1") == one
    assert chosen("2", "arm64") == chosen("2", "x86_64") == both
    assert chosen("latest", "arm64") == both  # the newest of his
    ImageLabel.objects.create(image=old, kind=ImageLabel.Kind.TAG, name="Latest")
    assert chosen("latest") == one  # tagged
    assert chosen("latest", "x86_64") == both
    assert chosen("latest", name="BASE") == base
    for version, architecture in (("3", ""), ("1", "x86_64")):
        with pytest.raises(NotFound, match="grant"):
            chosen(version, architecture)
    # What is used up is named still, so that the refusal can say what became of it.
    Image.objects.filter(pk=old.pk).update(revoked_at=timezone.now())
    assert chosen("1") == one
    assert chosen("latest") == both
    assert template_of(Actor(user=alice), "ubuntu", "2", "arm64").name == "not his"
