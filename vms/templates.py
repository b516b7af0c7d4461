"""Templates: made, changed, revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now

from accounts import revocation
from accounts.audit import audit, changed
from accounts.users import from_validation
from catalog import copies
from catalog.models import Image
from events.publishing import publish
from jobs.queueing import record_done
from orchestrator.db.locks import go_first
from orchestrator.refusals import Conflict, Invalid
from vms import access
from vms.models import Grant, Template
from vms.terms import MAXIMUM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accounts.actors import Actor
    from jobs.models import Job

CHANGEABLE = (
    "name",
    "description",
    "os",
    "cpus",
    "memory_mib",
    "disk_gib",
    "host_tags",
    "start",
    "default_lease_seconds",
    "maximum_lease_seconds",
    "lease_end",
)
LONGEST_LEASE = 366 * 86_400


def create_template(
    actor: Actor, *, images: Sequence[Image] = (), clone_of: str = "", **fields: Any
) -> Template:
    """Make a template of images (one per architecture) or of a VM to clone.

    Its maker becomes its owner, with a grant to manage it. Raises `Invalid` or `Forbidden`.
    """
    actor.require("templates.manage")
    template = Template(clone_of=clone_of.strip(), owner=actor.user, **fields)
    _check(template, images)
    with transaction.atomic():
        actor.take()
        actor.require("templates.manage")
        template.save(force_insert=True)
        template.images.set(images)
        if actor.user:
            Grant.objects.create(
                template=template, user=actor.user, level=Grant.Level.MANAGE, created_by=actor.user
            )
        audit(actor, "template.created", _subject(template), template.name, data=_data(template))
        announce(template)
    return template


def update_template(
    actor: Actor, template: Template, *, images: Sequence[Image] | None = None, **fields: Any
) -> Template:
    """Change a template, for VMs asked for from now on. Those that exist keep what they have."""
    access.require_manage(actor, template)
    with transaction.atomic():
        actor.take()
        template = Template.objects.select_for_update().get(pk=template.pk)
        if template.revoked_at:
            raise Conflict("This template was revoked; make a new one.")
        if template.of_image_id and images is not None and set(images) != {template.of_image}:
            raise Invalid.field("images", "This is the own template of one image. Make another.")
        before = _data(template)
        for name, value in fields.items():
            if name not in CHANGEABLE:
                raise Invalid.field(name, "This cannot be changed.")
            setattr(template, name, value)
        _check(template, list(template.images.all()) if images is None else images)
        template.save()
        if images is not None:
            template.images.set(images)
        audit(
            actor,
            "template.changed",
            _subject(template),
            template.name,
            data=changed(before, _data(template)),
        )
        announce(template)
    return template


def own_images(template: Template) -> list[Image]:
    """Return the images of `template` that no other live template is made from."""
    others = Template.objects.live().filter(of_image=None).exclude(pk=template.pk)
    shared = Image.objects.filter(templates__in=others)
    return list(template.images.exclude(pk__in=shared).order_by("pk"))


def revoke_template(
    actor: Actor, template: Template, *, running_vms: str = "keep", cached_copies: str = "keep"
) -> Job:
    """Revoke a template: nobody may use it from now on. `running_vms`: keep, stop or delete.

    With `cached_copies` “delete” every host is asked to delete its copies of images that no other
    template is made from; the result names the batches. Needs the right to manage hosts then.
    """
    running_vms = revocation.check_choice(running_vms)
    access.require_manage(actor, template)
    deletes = copies.check_choice(actor, cached_copies)
    with transaction.atomic():
        go_first()
        if deletes:  # the batch takes the account, which comes before the template
            actor.take()
        locked = Template.objects.select_for_update().get(pk=template.pk)
        hits = []
        if not locked.revoked_at:
            Template.objects.filter(pk=template.pk).update(revoked_at=Now())
            hits = revocation.apply(revocation.Revoked("template", template.pk), running_vms, actor)
        batches = copies.delete(actor, own_images(template)) if deletes else []
        data = {
            "running_vms": running_vms,
            "hit": [str(hit) for hit in hits],
            "cached_copies": cached_copies,
            "batches": [str(job.pk) for job in batches],
        }
        change = changed({"revoked": bool(locked.revoked_at)}, {"revoked": True})
        audit(actor, "template.revoked", _subject(template), template.name, data=change | data)
        announce(template)
        return record_done("template.revoke", _subject(template), actor, result=data)


def _check(template: Template, images: Sequence[Image]) -> None:
    template.name = template.name.strip()
    if bool(images) == bool(template.clone_of):
        raise Invalid.field("images", "Give either images or the name of a VM to clone.")
    if len({image.architecture for image in images}) != len(images):
        raise Invalid.field("images", "Give at most one image for each architecture.")
    for field in ("cpus", "memory_mib", "disk_gib"):
        if not 1 <= getattr(template, field) <= MAXIMUM[field]:
            raise Invalid.field(field, f"Give a number from 1 to {MAXIMUM[field]}.")
    if not 1 <= template.default_lease_seconds <= template.maximum_lease_seconds:
        raise Invalid.field(
            "default_lease_seconds", "Give at least 1 second and at most the maximum lease."
        )
    if template.maximum_lease_seconds > LONGEST_LEASE:
        raise Invalid.field("maximum_lease_seconds", f"Give at most {LONGEST_LEASE} seconds.")
    try:
        template.full_clean(exclude=["host_tags", "owner"])
    except ValidationError as error:
        raise from_validation(error) from None


def _data(template: Template) -> dict[str, Any]:
    """Return what can be changed of a stored template, for the audit trail."""
    data = {name: getattr(template, name) for name in CHANGEABLE}
    return data | {"images": sorted(image.name for image in template.images.all())}


def _subject(template: Template) -> str:
    return f"template:{template.pk}"


def announce(template: Template) -> None:
    """Publish that the template or its grants changed."""
    publish(
        "template.changed",
        _subject(template),
        {"name": template.name},
        permission="templates.view_all",
        owner_id=template.owner_id,
    )
