"""Which template stands for an image that a tool asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from accounts.actors import Actor
from catalog.models import CatalogSource, Image, ImageLabel
from compat.machines.creating import template_of
from orchestrator.refusals import NotFound
from tests.contract.conftest import is_error
from vms.models import Grant, Template, VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.contract.conftest import Tool

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


def test_an_image_without_a_template_follows_its_roles_and_claims(
    bob: User, alice: User, image: Callable[..., Image], tool_of: Callable[..., Tool]
) -> None:
    old, new, closed = image("1"), image("2"), image("3")
    for one, kind, name in (
        (new, ImageLabel.Kind.ROLE, "developer"),
        (new, ImageLabel.Kind.CLAIM, "Create.VM"),  # by its name on the wire
        (closed, ImageLabel.Kind.ROLE, "Operator"),
    ):
        ImageLabel.objects.create(image=one, kind=kind, name=name)
    template("one", old, user=bob)
    his = Actor(user=bob)
    made = template_of(his, "ubuntu", "latest", "arm64")  # newer than the one that he was granted
    assert made.of_image == new
    assert template_of(his, "Ubuntu", "2", "") == made
    with pytest.raises(NotFound, match="open"):
        template_of(his, "ubuntu", "3", "")
    assert template_of(Actor(user=alice), "ubuntu", "latest", "").of_image == closed
    # He finds the manifest first, as Terraform does, and asks for the machine then.
    tool = tool_of(bob)
    assert tool("get", "/catalog/ubuntu/2/arm64").status_code == 200
    assert tool("get", "/catalog/ubuntu/3/arm64").status_code == 404
    manifest = {"catalog_id": "ubuntu", "version": "2", "specs": {"cpu": "3", "memory": "1024"}}
    body = {"name": "straight", "architecture": "arm64", "catalog_manifest": manifest}
    assert tool("post", "/machines/async", body).status_code == 202
    vm = VirtualMachine.objects.get(name="straight")
    assert (vm.template, vm.grant, vm.cpus, vm.memory_mib) == (made, None, 3, 1024)
    assert vm.lease_seconds == 14_400
    assert tool("get", "/machines/straight").json()["State"] == "pending"
    manifest["version"] = "3"
    body["name"] = "not-his"
    assert is_error(tool("post", "/machines/async", body), 404)
    # Once somebody makes a template of it, the grants decide.
    template("two", new, user=alice)
    with pytest.raises(NotFound):
        template_of(his, "ubuntu", "2", "")
