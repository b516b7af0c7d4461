"""To whom an image without templates is open: those who meet its required roles and claims.

VMs are made from it by its own template (`vms.own_templates`), for which nobody has a grant. An
image that requires nothing is open only to who manages images; so is every other one, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef

from accounts.actors import Actor
from accounts.permissions import PERMISSIONS
from catalog import requirements
from catalog.models import Image, ImageLabel
from vms.models import Template

if TYPE_CHECKING:
    from accounts.revocation import Held
    from catalog.models import ImageQuerySet
    from vms.models import VirtualMachine

CLOSED = (
    "This image is open to roles or claims that you do not have, and no template of it was "
    "granted to you. Ask for one."
)
CLOSED_MEANWHILE = "Its image is not open any more to the account that asked for it."
HAS_TEMPLATES = "Templates are made from this image by now. Ask for a grant of one of them."


def open_images(actor: Actor) -> ImageQuerySet:
    """Return the images from which the actor may make VMs without a template of anybody's.

    One from which a template was ever made is not among them, not even when that was revoked: the
    grants decide there.
    """
    if not actor.can("vms.use"):
        return Image.objects.none()
    made = Template.objects.filter(images=OuterRef("pk"), of_image=None)
    rows = Image.objects.present().exclude(Exists(made))
    if actor.can("images.manage"):
        return rows
    needs = ImageLabel.objects.filter(
        image=OuterRef("pk"), kind__in=[ImageLabel.Kind.ROLE, ImageLabel.Kind.CLAIM]
    )
    return rows.filter(Exists(needs)).open_to(actor)


def has_templates(image: Image) -> bool:
    """Return whether somebody made a template of `image`, revoked or not."""
    return image.templates.filter(of_image=None).exists()


def is_open(image: Image, roles: frozenset[str], permissions: frozenset[str]) -> bool:
    """Return whether `image` is open to somebody with roles of these names and permissions.

    Reads its labels: one query unless they are prefetched.
    """
    if "images.manage" in permissions:
        return True
    wanted_roles, wanted_claims = image.required_roles, image.required_claims
    if not (wanted_roles or wanted_claims):
        return False
    words = {requirements.word(name) for name in roles}
    return requirements.are_met(wanted_roles, words) and requirements.are_met(
        wanted_claims, requirements.claims_with(words, permissions)
    )


def is_open_to(actor: Actor, image: Image) -> bool:
    """Return whether `image` is open to the actor, as their token narrows them."""
    return is_open(image, frozenset(requirements.roles_of(actor)), actor.permissions)


def stays_open(vm: VirtualMachine, held: Held | None = None) -> bool:
    """Return whether the image of a VM that rests on no grant is open to its owner still.

    With `held` as if the owner had that and no more.
    """
    image, owner = vm.template.of_image, vm.requested_by
    if image is None or owner is None:
        return False
    actor = Actor(user=owner, token=vm.token)
    if held is None:
        return is_open_to(actor, image)
    codes = held.permissions & PERMISSIONS.keys()
    scoped = frozenset(code for code in codes if actor.in_scope(PERMISSIONS[code].noun))
    return is_open(image, held.roles, scoped)
