"""Who may use what, and why: the same question asked from either side.

It explains what `vms.access` decides: a right through a grant, direct or by a role, and what keeps
that right from being of use now. Nothing is cached.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef, Q

from accounts.actors import Actor
from accounts.models import Role, User
from orchestrator.api.references import as_id
from orchestrator.refusals import NotFound
from vms import access
from vms.models import Grant, Template, managed_by

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime
    from uuid import UUID

    from django.db.models import QuerySet

    from accounts.models import ApiToken

SUBJECTS_SHOWN = 100
TEMPLATES_SHOWN = 25


@dataclass(frozen=True)
class Way:
    """One grant by which one account may use one template.

    `why_not` says what keeps it from being of use now, and is empty when nothing does. The way
    that a request would take is `taken`: the direct one first, then the one that lasts longest.
    """

    grant: Grant
    user: User
    why_not: str
    taken: bool = False

    @property
    def template(self) -> Template:
        return self.grant.template

    @property
    def role(self) -> Role | None:
        """The role by which the grant reaches the account; None for a direct one."""
        return self.grant.role

    @property
    def key(self) -> str:
        """What tells it from every other way, in an order that stays."""
        return f"{self.grant.pk}.{self.user.pk}"

    @property
    def usable(self) -> bool:
        return not self.why_not


def who_can_use(actor: Actor, template: Template) -> list[Way]:
    """Return every way to use `template`, by account name.

    Needs `templates.view_all` or the right to manage it; raises `NotFound` or `Forbidden`.
    """
    if not actor.can("templates.view_all"):
        access.require_manage(actor, template)
    return _ways(Grant.objects.live().filter(template=template))


def what_can_use(actor: Actor, user: User, token: ApiToken | None = None) -> list[Way]:
    """Return every way by which `user` may use templates that the actor may see, too.

    With one of its tokens, as far as that goes. About somebody else it needs `accounts.view`;
    raises `NotFound`.
    """
    if user.pk != actor.user_id and not actor.can("accounts.view"):
        raise NotFound("There is no such account.")
    visible = Template.objects.visible_to(actor)
    mine = Grant.objects.live().for_user(user.pk).filter(template__in=visible)
    ways = _ways(mine, {user.pk})
    if token is None:
        return ways
    return _marked(
        replace(way, why_not=way.why_not or _kept_from(Actor(user, token), way.template))
        for way in ways
    )


def _kept_from(by_token: Actor, template: Template) -> str:
    if not by_token.in_scope("vms"):
        return "The token does not have the scope vms."
    return "" if by_token.may_use_template(template.pk) else "The token is narrowed to others."


def ways(actor: Actor, *, template: str = "", subject: str = "") -> list[Way]:
    """Return every way that the actor may see, of one template and one account or role if named.

    Both by id or by exact name. With `templates.view_all` that is everybody's; else one's own, and
    those to the templates that one manages. In the order of the ids of grant and account.
    """
    grants = Grant.objects.live()
    if template:
        grants = grants.filter(Q(template=as_id(template)) | Q(template__name__iexact=template))
    if actor.can("templates.view_all"):
        found = _ways(grants)
    else:
        managed = _ways(grants.filter(template__in=managed_by(actor)))
        own = _ways(grants.for_user(actor.user_id), {actor.user_id} if actor.user_id else ())
        found = list({(way.grant.pk, way.user.pk): way for way in own + managed}.values())
    if subject:
        found = [way for way in found if _is_about(way, subject)]
    return sorted(found, key=lambda way: way.key)


def _is_about(way: Way, subject: str) -> bool:
    if pk := as_id(subject):
        return pk in (way.user.pk, way.grant.role_id)
    names = [way.user.username, way.role.name if way.role else ""]
    return subject.lower() in [name.lower() for name in names]


@dataclass(frozen=True)
class Row:
    """One subject of the matrix: a role, or an account with what reaches it by its roles."""

    subject: User | Role
    is_role: bool
    cells: list[list[Grant] | list[Way]]


@dataclass(frozen=True)
class Matrix:
    """Subjects × templates. `more_*` count what was left out; a filter brings it in."""

    templates: list[Template]
    rows: list[Row]
    more_templates: int
    more_subjects: int


def matrix(actor: Actor, *, subject: str = "", template: str = "") -> Matrix:
    """Return who may use what, of those whose names have these texts in them.

    Needs `templates.view_all`. Costs the same number of queries, however much there is.
    """
    actor.require("templates.view_all")
    live = Grant.objects.live().filter(template=OuterRef("pk"))
    wanted = Template.objects.live().filter(Exists(live), name__icontains=template)
    templates = list(wanted.order_by("name")[:TEMPLATES_SHOWN])
    grants = Grant.objects.live().filter(template__in=templates)
    word = subject.lower()
    ways = [way for way in _ways(grants) if word in way.user.username.lower()]
    by_role: dict[UUID, tuple[Role, dict[UUID, list[Grant]]]] = {}
    for grant in grants.filter(role__isnull=False).for_page().order_by("role__group__name"):
        assert grant.role
        if word in grant.role.name.lower():
            _, cells = by_role.setdefault(grant.role.pk, (grant.role, defaultdict(list)))
            cells[grant.template_id].append(grant)
    by_user: dict[UUID, tuple[User, dict[UUID, list[Way]]]] = {}
    for way in ways:
        _, found = by_user.setdefault(way.user.pk, (way.user, defaultdict(list)))
        found[way.grant.template_id].append(way)
    rows = [
        Row(role, True, [cells.get(one.pk, []) for one in templates])
        for role, cells in by_role.values()
    ] + [
        Row(user, False, [found.get(one.pk, []) for one in templates])
        for user, found in by_user.values()
    ]
    return Matrix(
        templates,
        rows[:SUBJECTS_SHOWN],
        wanted.count() - len(templates),
        len(rows[SUBJECTS_SHOWN:]),
    )


def in_matrix(actor: Actor, *, subject: str = "", template: str = "") -> list[Way]:
    """Return the ways that the matrix of these filters is made of, however many there are."""
    actor.require("templates.view_all")
    word = subject.lower()
    grants = Grant.objects.live().filter(
        template__in=Template.objects.live().filter(name__icontains=template)
    )
    return [
        way
        for way in _ways(grants)
        if word in way.user.username.lower() or (way.role and word in way.role.name.lower())
    ]


def _ways(grants: QuerySet[Grant], only: Collection[UUID] = ()) -> list[Way]:
    """Return how `grants` reach accounts (of `only` these, if any): six queries."""
    found = list(grants.for_page().prefetch_related("template__images"))  # type: ignore[attr-defined]
    groups = {grant.role.group_id for grant in found if grant.role}
    members: dict[int, list[UUID]] = defaultdict(list)
    membership = User.groups.through.objects.filter(group__in=groups)
    if only:
        membership = membership.filter(user__in=only)
    for group_id, user_id in membership.values_list("group_id", "user_id"):
        members[group_id].append(user_id)
    reached = {pk for pks in members.values() for pk in pks} | {
        grant.user_id for grant in found if grant.user_id
    }
    users = User.objects.in_bulk(reached)
    may_ask = _who_may_ask(reached)
    ways = [
        Way(grant, users[pk], _why_not(grant, users[pk], pk in may_ask))
        for grant in found
        for pk in (members[grant.role.group_id] if grant.role else [grant.user_id])
        if pk in users
    ]
    ways.sort(key=lambda way: (way.user.username.lower(), way.template.name.lower(), _rank(way)))
    return _marked(ways)


def _rank(way: Way) -> tuple[bool, bool, float, UUID]:
    """Order the ways of one account to one template as `access.take_template` tries them."""
    ends: datetime | None = way.grant.expires_at
    return (
        way.role is not None,
        ends is not None,
        -ends.timestamp() if ends else 0,
        way.grant.pk,
    )


def _marked(ways: Iterable[Way]) -> list[Way]:
    """Mark the first usable way of each account to each template."""
    seen: set[tuple[UUID, UUID]] = set()
    marked = []
    for way in ways:
        key = (way.user.pk, way.grant.template_id)
        taken = way.usable and key not in seen
        if taken:
            seen.add(key)
        marked.append(replace(way, taken=taken))
    return marked


def _who_may_ask(user_ids: Collection[UUID]) -> set[UUID]:
    rows = Role.objects.filter(group__user__in=user_ids)
    return {
        user_id
        for user_id, codes in rows.values_list("group__user", "permissions")
        if "vms.use" in codes
    }


def _why_not(grant: Grant, user: User, may_ask: bool) -> str:
    if not user.is_active:
        return "The account is deactivated."
    if not may_ask:
        return "No role of the account allows it to ask for VMs."
    if grant.template.revoked_at:
        return "The template was revoked."
    images = grant.template.images.all()  # prefetched
    if images and all(image.revoked_at or image.tainted_at for image in images):
        return "Every image of the template was revoked or tainted."
    if grant.maximum_vms is not None and grant.vms >= grant.maximum_vms:
        return f"All {grant.maximum_vms} VMs that it allows are in use."
    return ""
