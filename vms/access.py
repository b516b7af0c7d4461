"""Who may use which template, taken in the transaction that relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import ApiToken, Role, User
from catalog.models import Image
from orchestrator.db.locks import take, take_all
from orchestrator.refusals import Forbidden, NotFound
from vms import openness
from vms.models import Grant, Template, VirtualMachine

if TYPE_CHECKING:
    from uuid import UUID

    from accounts.actors import Actor

TEMPLATE_REVOKED = "This template was revoked. Ask for another one."
IMAGE_REVOKED = "Every image of this template was revoked or tainted. Ask the template's owner."


def check_room_of_token(actor: Actor) -> None:
    """Raise `Forbidden` when the token has as many VMs as it may have at once.

    Call it right after `actor.take`, which let nobody else count the VMs of that token meanwhile.
    """
    maximum = actor.token.maximum_vms if actor.token else None
    if maximum is None:
        return
    if VirtualMachine.objects.open().filter(token=actor.token).count() >= maximum:
        raise Forbidden(
            f"This token allows {maximum} VMs at once, and they are all in use. Delete one, or use "
            "another token.",
            code="limit_reached",
        )


def take_template(actor: Actor, template: Template) -> tuple[Grant | None, list[Image]]:
    """Take images, template and grant, in this order, until the transaction ends.

    The caller has taken account and token before (`actor.take`). Returns the grant relied on: the
    direct one first, then the one that lasts longest; None for the own template of an image, which
    must be open to the actor instead. Raises `NotFound` for what the actor may not
    see, `Forbidden` with a code for what they may see but not use.
    """
    try:
        return _take_template(actor, template)
    except Forbidden:
        # Whoever has a grant sees the template, so only a refusal has to ask.
        seen = Template.objects.visible_to(actor).filter(pk=template.pk).exists()
        opened = openness.open_images(actor).filter(own_template=template)
        if not seen and not opened.exists():
            raise NotFound("There is no such template.") from None
        raise


def _take_template(actor: Actor, template: Template) -> tuple[Grant | None, list[Image]]:
    if not actor.may_use_template(template.pk):
        raise Forbidden("This token is narrowed to other templates.", code="token_scope")
    images = take_all(template.images.usable())
    if not images and not template.clone_of:
        raise Forbidden(IMAGE_REVOKED, code="image_revoked")
    if not take(Template.objects.live().filter(pk=template.pk)):
        raise Forbidden(TEMPLATE_REVOKED, code="template_revoked")
    if template.of_image_id:
        _require_open(actor, template)
        return None, images
    return _take_grant(actor, template), images


def _require_open(actor: Actor, template: Template) -> None:
    """Raise `Forbidden` unless the image of an own template is open to the actor.

    The account and the image were taken before: neither its roles nor what the image requires
    changes until the transaction ends.
    """
    image = Image.objects.get(own_template=template)
    if openness.has_templates(image):
        raise Forbidden(openness.HAS_TEMPLATES, code="image_closed")
    if not openness.is_open_to(actor, image):
        raise Forbidden(openness.CLOSED, code="image_closed")


def _take_grant(actor: Actor, template: Template) -> Grant:
    mine = template.grants.for_user(actor.user_id)
    live = list(
        mine.live().order_by(
            F("user").asc(nulls_last=True), F("expires_at").desc(nulls_first=True), "id"
        )
    )
    full: Grant | None = None
    for grant in live:
        if grant.maximum_vms is None:
            if take(Grant.objects.live().filter(pk=grant.pk)):
                return grant
        # The UPDATE is the taking: it waits for a revocation in flight and then looks again.
        elif (
            Grant.objects.live()
            .filter(pk=grant.pk, vms__lt=F("maximum_vms"))
            .update(vms=F("vms") + 1)
        ):
            return grant
        elif Grant.objects.live().filter(pk=grant.pk).exists():
            full = grant
    if full:
        raise Forbidden(
            f"Your grant allows {full.maximum_vms} VMs of this template at once, and they are all "
            "in use. Delete one, or ask for a larger grant.",
            code="limit_reached",
        )
    if mine.filter(revoked_at__isnull=False).exists():
        raise Forbidden(
            "Your grant for this template was revoked. Ask its owner for a new one.",
            code="grant_revoked",
        )
    if mine.exists():
        raise Forbidden(
            "Your grant for this template has expired. Ask its owner for a new one.",
            code="grant_expired",
        )
    raise Forbidden(
        "You may see this template but have no grant to use it. Ask its owner for one.",
        code="level_too_low",
    )


def why_not_any_more(vm: VirtualMachine) -> str:
    """Return why `vm` may no longer be placed, created or started; empty when it may.

    Jobs ask this before each of these steps. Stop and delete are never refused for it. Narrow
    queries: a single one with all of it took twice the time, most of it to make and to plan.
    """
    user_id = vm.requested_by_id
    if vm.pool_id and user_id is None:
        return _why_not_of(vm)  # of a warm pool: nobody's yet
    if user_id is None or not User.objects.filter(pk=user_id, is_active=True).exists():
        return "The account that asked for it was deactivated."
    if vm.token_id and (refusal := _why_not_with_token(vm.token_id, vm)):
        return refusal
    grant = vm.grant_id and Grant.objects.live().filter(pk=vm.grant_id).only("role").first()
    if not vm.grant_id and vm.template.of_image_id:
        return _why_not_of(vm) or ("" if openness.stays_open(vm) else openness.CLOSED_MEANWHILE)
    if not grant:
        return "The grant that allowed it was revoked or has expired."
    if grant.role_id and not Role.objects.of(user_id).filter(pk=grant.role_id).exists():
        return "The role whose grant allowed it was taken away."
    return _why_not_of(vm)


def _why_not_with_token(token_id: UUID, vm: VirtualMachine) -> str:
    rows = ApiToken.objects.live().filter(pk=token_id)
    token = rows.values("scopes", "templates").first()
    if token is None:
        return "The token that asked for it was revoked or has expired."
    if {"vms", "admin"}.isdisjoint(token["scopes"]):
        return "The token that asked for it may use no VMs any more."
    if token["templates"] is not None and str(vm.template_id) not in token["templates"]:
        return "The token that asked for it may not use its template any more."
    return ""


def _why_not_of(vm: VirtualMachine) -> str:
    template = Template.objects.live().filter(pk=vm.template_id).only("clone_of").first()
    if not template:
        return "Its template was revoked."
    if not template.clone_of and not template.images.usable().exists():
        return "Every image of its template was revoked or tainted."
    return ""


def may_manage(actor: Actor, template: Template) -> bool:
    """Return whether the actor may change and grant `template`, by role or by a grant."""
    if actor.can("templates.manage"):
        return True
    if not actor.in_scope("templates") or not actor.may_use_template(template.pk):
        return False
    return (
        template.grants.live().managing().for_user(actor.user_id).filter(template=template).exists()
    )


def require_seen(actor: Actor, template: Template) -> None:
    """Raise `NotFound` unless the actor may see `template`."""
    if not Template.objects.visible_to(actor).filter(pk=template.pk).exists():
        raise NotFound("There is no such template.")


def require_manage(actor: Actor, template: Template) -> None:
    """Raise `NotFound` or `Forbidden` unless the actor may change and grant `template`."""
    require_seen(actor, template)
    if may_manage(actor, template):
        return
    actor.require_scope("templates")
    raise Forbidden(
        "You may use this template but not manage it. Ask its owner.", code="level_too_low"
    )


def expired_grants() -> Q:
    """Return the condition on grants whose expiry has not been acted on."""
    return Q(expires_at__lte=Now(), expiry_applied=False, revoked_at=None)
