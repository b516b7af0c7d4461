"""VMs made straight from an image: open by its required roles and claims, and closed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accounts import custom_roles, tokens, users
from accounts.actors import Actor
from accounts.models import AuditEvent, Role
from catalog import images
from catalog.models import Image
from orchestrator.refusals import Conflict, Forbidden, NotFound
from vms import grants, requests, templates, verbs
from vms.models import Template, VirtualMachine
from vms.openness import open_images
from vms.own_templates import own_template

if TYPE_CHECKING:
    from tests.vms.conftest import Pool, Worker

pytestmark = pytest.mark.stores


@pytest.fixture
def developer(db: None) -> Role:
    return Role.objects.get(group__name="Developer")


@pytest.fixture
def builder(pool: Pool) -> Role:
    """A role of the kind that images require, which Bob has beside Developer."""
    role = custom_roles.create_role(pool.alice, name="iOS team", permissions=["hosts.view"])
    users.add_role(pool.alice, pool.bob.user, role)  # type: ignore[arg-type]
    return role


@pytest.fixture
def image(pool: Pool) -> Image:
    """An image without a template, for whoever has the role."""
    assert pool.image
    return images.add_image(
        pool.alice,
        source=pool.image.source,
        catalog_id="debian",
        version="12",
        architecture="arm64",
        type="pvm",
        required_roles=["ios_team"],
        minimum_cpus=3,
    )


def ask(actor: Actor, image: Image, **options: object) -> VirtualMachine:
    return requests.request_vm(actor, template=own_template(actor, image), **options)  # type: ignore[arg-type]


def states(*vms: VirtualMachine) -> list[str]:
    return [VirtualMachine.objects.get(pk=vm.pk).state for vm in vms]


def test_a_vm_of_an_image_is_made_with_the_settings_and_no_grant(
    pool: Pool, worker: Worker, builder: Role, image: Image
) -> None:
    vm = ask(pool.bob, image)
    worker.finish(vm.create_job)
    assert states(vm) == ["running"]
    assert (vm.grant, vm.cpus, vm.memory_mib, vm.disk_gib) == (None, 3, 4096, 64)
    assert vm.lease_seconds == 14_400
    assert vm.share is not None  # it counts on a role's share of the queue and its quota
    assert vm.placements.get().image == image
    told = AuditEvent.objects.get(action="vm.requested", subject=vm.subject).data
    assert told["image"] == "debian:12 (arm64)"
    assert told["required_roles"] == ["ios_team"]
    again = ask(pool.bob, image, cpus=1)
    assert again.template == vm.template
    assert Template.objects.filter(of_image=image).count() == 1
    assert AuditEvent.objects.filter(action="template.created", data__own=True).count() == 1
    with pytest.raises(Conflict, match="own template"):
        grants.grant_template(pool.alice, template=vm.template, user=pool.bob.user)
    with pytest.raises(NotFound):  # nobody sees it who does not see all templates
        templates.update_template(pool.bob, vm.template, cpus=9)


def test_to_whom_an_image_is_open(pool: Pool, image: Image) -> None:
    assert pool.image
    assert image not in open_images(pool.bob)
    with pytest.raises(NotFound):
        own_template(pool.bob, image)
    assert set(open_images(pool.alice)) == {image}  # she manages images; the other has a template
    images.change(pool.alice, image, required_roles=[])
    assert not open_images(pool.bob)  # it requires nothing: only who manages images
    images.change(pool.alice, image, required_claims=["pull_catalog_manifest", "x"])
    assert set(open_images(pool.bob)) == {image}
    token, _ = tokens.create_token(pool.bob, name="narrow", scopes=["hosts"])
    assert not open_images(Actor(user=pool.bob.user, token=token))
    ours = templates.create_template(
        pool.alice,
        name="debian",
        images=[image],
        cpus=1,
        memory_mib=512,
        disk_gib=5,
        default_lease_seconds=60,
        maximum_lease_seconds=60,
    )
    own = Template.objects.filter(of_image=image).first()
    assert own is None
    assert not open_images(pool.bob)
    templates.revoke_template(pool.alice, ours)
    assert not open_images(pool.bob)  # the grants decide, also when none can hold any more


def test_a_role_that_is_withdrawn_reaches_what_it_allowed(
    pool: Pool, worker: Worker, builder: Role, image: Image
) -> None:
    runs, waits, other = ask(pool.bob, image), ask(pool.bob, image, cpus=64), pool.ask(name="other")
    for vm in (runs, other):
        worker.finish(vm.create_job)
    bob = pool.bob.user
    assert bob
    kept = [role for role in Role.objects.of(bob.pk) if role != builder]
    hits = users.preview_roles(bob, kept)
    assert sorted(hit.id for hit in hits) == sorted([runs.pk, waits.pk])
    assert not users.preview_roles(bob, [*kept, builder])
    users.set_roles(pool.alice, bob, kept, running_vms="delete")
    assert states(runs, waits, other) == ["deleting", "cancelled", "running"]
    with pytest.raises(NotFound):
        ask(pool.bob, image)
    with pytest.raises(NotFound):  # and by the template itself, as if there were none
        pool.ask(template=runs.template)


def test_a_claim_that_goes_with_a_permission_reaches_what_it_allowed(
    pool: Pool, worker: Worker, builder: Role, image: Image
) -> None:
    images.change(pool.alice, image, required_roles=[], required_claims=["hosts.view"])
    runs, waits = ask(pool.bob, image), ask(pool.bob, image, cpus=64)
    worker.finish(runs.create_job)
    keep = custom_roles.preview_losing(builder, deleting=False, permissions=["hosts.view"])
    assert keep == []
    hits = custom_roles.preview_losing(builder, deleting=False, permissions=[])
    assert {hit.id for hit in hits} == {runs.pk, waits.pk}
    done = custom_roles.change_role(pool.alice, builder, permissions=[], running_vms="stop")
    assert {hit.id for hit in done} == {runs.pk, waits.pk}
    assert states(runs, waits) == ["stopping", "cancelled"]
    worker.until(lambda: states(runs) == ["stopped"])
    with pytest.raises(Forbidden, match="not open any more"):
        verbs.start(pool.bob, VirtualMachine.objects.get(pk=runs.pk))


def test_a_role_that_is_renamed_or_deleted_reaches_it_too(
    pool: Pool, builder: Role, image: Image
) -> None:
    waits = ask(pool.bob, image, cpus=64)
    custom_roles.change_role(pool.alice, builder, name="Android team")
    assert states(waits) == ["cancelled"]
    custom_roles.change_role(pool.alice, builder, name="iOS.Team")
    waits = ask(pool.bob, image, cpus=64)
    assert custom_roles.preview_losing(builder, deleting=True)
    custom_roles.delete_role(pool.alice, builder)
    assert states(waits) == ["cancelled"]


def test_an_image_that_is_closed_tainted_revoked_or_deleted(
    pool: Pool, worker: Worker, builder: Role, image: Image
) -> None:
    runs, waits = ask(pool.bob, image), ask(pool.bob, image, cpus=64)
    worker.finish(runs.create_job)
    images.change(pool.alice, image, description="The same people")
    images.change(pool.alice, image, required_roles=["ios team", "others"])
    assert states(runs, waits) == ["running", "pending"]
    images.change(pool.alice, image, required_roles=["others"])
    assert states(runs, waits) == ["running", "cancelled"]
    told = AuditEvent.objects.filter(action="image.changed").latest("pk").data
    assert sorted(told["hit"]) == sorted([runs.subject, waits.subject])
    with pytest.raises(Forbidden):
        verbs.restart(pool.bob, VirtualMachine.objects.get(pk=runs.pk))
    images.change(pool.alice, image, required_roles=["ios team"])
    waits = ask(pool.bob, image, cpus=64)
    images.set_taint(pool.alice, image, True)
    assert states(waits) == ["cancelled"]
    with pytest.raises(Forbidden) as refusal:
        ask(pool.bob, image)
    assert refusal.value.code == "image_revoked"
    images.set_taint(pool.alice, image, False)
    waits = ask(pool.bob, image, cpus=64)
    images.remove(pool.alice, image)
    assert states(runs, waits) == ["running", "cancelled"]
    with pytest.raises(NotFound):
        ask(pool.bob, image)


def test_a_queued_create_is_asked_again_before_it_is_placed(
    pool: Pool, worker: Worker, builder: Role, image: Image
) -> None:
    """What no revocation told of, as a group that was changed in the database, holds there too."""
    vm = ask(pool.bob, image)
    assert pool.bob.user
    pool.bob.user.groups.remove(builder.group)
    worker.finish(vm.create_job)
    assert states(vm) == ["cancelled"]
    assert "not open any more" in VirtualMachine.objects.get(pk=vm.pk).reason
