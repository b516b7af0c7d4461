from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import AbstractUser, Group
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now
from django.utils import timezone
from django.utils.crypto import salted_hmac

from events.models import SealedModel
from orchestrator.db.clock import from_now
from orchestrator.db.ids import uuid7
from orchestrator.db.models import BaseModel

if TYPE_CHECKING:
    from uuid import UUID

    from accounts.actors import Actor


class User(AbstractUser):
    """An account: a person, who signs in, or a service account, which only has tokens."""

    class Kind(models.TextChoices):
        PERSON = "person"
        SERVICE = "service"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.PERSON)
    # Part of what a session is valid for: one more ends all that began before.
    session_epoch = models.PositiveIntegerField(default=0)
    description = models.CharField(max_length=200, blank=True, default="")

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                Lower("username"),
                name="user_username_unique",
                violation_error_message="An account of this name exists. Choose another name.",
            )
        ]

    def __str__(self) -> str:
        return self.username

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """As Django's, which changes with the password; this one also with the epoch."""
        return salted_hmac(
            "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash",
            f"{self.password}{self.session_epoch or ''}",
            secret=secret,
            algorithm="sha256",
        ).hexdigest()


class RoleQuerySet(models.QuerySet["Role"]):
    def of(self, user_id: UUID | None) -> RoleQuerySet:
        return self.filter(group__user=user_id)


class Role(BaseModel):
    """What extends a Django group to a role: its permissions and its weight in the queue."""

    group = models.OneToOneField(Group, on_delete=models.CASCADE, related_name="role")
    shipped = models.BooleanField(default=False)
    weight = models.PositiveSmallIntegerField(default=1)
    permissions = models.JSONField(default=list)
    # Whoever holds it must sign in with a second factor.
    requires_second_factor = models.BooleanField(default=False)

    objects = RoleQuerySet.as_manager()

    def __str__(self) -> str:
        return self.group.name

    @property
    def name(self) -> str:
        return self.group.name


class ProvidedRole(BaseModel):
    """A role that single sign-on gave to an account, and may take again. Others stay by hand."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="provided_roles")
    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "role"], name="provided_role_unique")
        ]

    def __str__(self) -> str:
        return f"{self.role_id} of {self.user_id}"


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def live(self) -> InvitationQuerySet:
        """Return invitations that may be accepted now, by the database's clock."""
        return self.filter(expires_at__gt=Now(), accepted_at=None, revoked_at=None)

    def visible_to(self, actor: Actor) -> InvitationQuerySet:
        return self if actor.can("accounts.view") else self.none()


class Invitation(BaseModel):
    """An account that a person may make for themself, once, by a link. Its digest alone is kept."""

    username = models.CharField(max_length=150)
    email = models.EmailField(blank=True, default="")
    roles = models.ManyToManyField(Role, related_name="+")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    invited_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    account = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    accepted_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects = InvitationQuerySet.as_manager()

    def __str__(self) -> str:
        return self.username


UNUSED_DAYS = 30  # a token that nobody used for so long is shown as unused


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def live(self) -> ApiTokenQuerySet:
        """Return tokens that may be used now, by the database's clock."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None)

    def unused(self, days: int) -> ApiTokenQuerySet:
        """Return live tokens that are older than `days` and were not used since."""
        since = timezone.now() - timedelta(days=days)
        return self.live().filter(
            Q(last_used_at=None) | Q(last_used_at__lt=since),
            Q(previous_used_at=None) | Q(previous_used_at__lt=since),
            created_at__lt=since,
        )

    def for_page(self) -> ApiTokenQuerySet:
        """Return tokens with what pages tell of their state, by the database's clock."""
        soon = from_now(settings.TOKEN_WARNING_DAYS * 86_400)
        unused = ApiToken.objects.unused(UNUSED_DAYS).values("pk")
        return self.select_related("user", "created_by").annotate(
            is_expired=Q(expires_at__isnull=False) & Q(expires_at__lte=Now()),
            is_expiring=Q(expires_at__isnull=False) & Q(expires_at__lte=soon),
            is_unused=Q(pk__in=unused),
        )

    def visible_to(self, actor: Actor) -> ApiTokenQuerySet:
        return self if actor.can("accounts.view") else self.filter(user=actor.user)


class ApiToken(BaseModel):
    """A key of an account for pipelines. Its digest is kept; it only narrows its account."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    public_id = models.CharField(max_length=16, unique=True)
    digest = models.CharField(max_length=64)
    # Chosen by the maker of a key pair (`accounts.key_pairs`); other tokens have none.
    key = models.CharField(max_length=100, null=True)  # noqa: DJ001 - many have none, each is unique
    scopes = models.JSONField(default=list)
    # Ids of the templates it may use; null means no narrowing. Templates live in a higher room.
    templates = models.JSONField(null=True, default=None)
    # From where it may be used, as CIDR; null means from anywhere.
    networks = models.JSONField(null=True, default=None)
    maximum_vms = models.PositiveIntegerField(null=True)  # that exist at once
    expires_at = models.DateTimeField(null=True)
    expiry_warned_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    last_used_address = models.GenericIPAddressField(null=True)
    revoked_at = models.DateTimeField(null=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    # The secret before the last rotation, while it still works. All else belongs to the token.
    rotated_at = models.DateTimeField(null=True)
    previous_public_id = models.CharField(  # noqa: DJ001 - many have none, and it is unique
        max_length=16, unique=True, null=True
    )
    previous_digest = models.CharField(max_length=64, default="")
    previous_ends_at = models.DateTimeField(null=True)
    previous_used_at = models.DateTimeField(null=True)
    previous_used_address = models.GenericIPAddressField(null=True)

    objects = ApiTokenQuerySet.as_manager()
    used_id = ""  # the `public_id` of the secret that authenticated this request
    # Of a token that was made just now, to be shown once.
    clear_text = ""
    clear_secret: str | None = None

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["key"], condition=Q(revoked_at=None), name="token_key_unique"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def prefix(self) -> str:
        """What may be shown of the token, to tell it from others."""
        return self.key or f"orc_{self.public_id}"

    @property
    def previous_prefix(self) -> str:
        """The same of the secret before the last rotation; empty when that works no more."""
        return f"orc_{self.previous_public_id}" if self.has_previous else ""

    @property
    def has_previous(self) -> bool:
        """Return whether the secret before the last rotation still works."""
        ends = self.previous_ends_at
        return bool(self.previous_public_id and ends and ends > timezone.now())

    def answers_to(self, public_id: str) -> bool:
        """Return whether the secret of `public_id` still works, if the token itself is live."""
        if public_id == self.public_id:
            return True
        return self.has_previous and public_id == self.previous_public_id


class Preference(BaseModel):
    """How an account likes a client's pages, by a slug that the client chooses. Decides nothing."""

    class Kind(models.TextChoices):
        STRING = "string"
        BOOL = "bool"
        INT = "int"
        JSON = "json"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="preferences")
    slug = models.CharField(max_length=100)
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=6, choices=Kind.choices)
    value = models.TextField(blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "slug"], name="preference_unique")]

    def __str__(self) -> str:
        return self.slug


class AuditQuerySet(models.QuerySet["AuditEvent"]):
    def sealed(self) -> AuditQuerySet:
        return self.filter(sequence__isnull=False)

    def beyond_retention(self) -> AuditQuerySet:
        """Return what the chain does not need any more: all up to its anchor."""
        anchor = AuditMark.objects.filter(name=AuditMark.Name.PRUNED).values("sequence")[:1]
        return self.filter(sequence__lte=models.Subquery(anchor))

    def visible_to(self, actor: Actor) -> AuditQuerySet:
        return self if actor.can("audit.view") else self.none()


class AuditEvent(SealedModel):
    """Who did what to which object. Names are copied, so that the record outlives what it names."""

    class Outcome(models.TextChoices):
        DONE = "done"
        REFUSED = "refused"

    action = models.CharField(max_length=60, db_index=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.DONE)
    actor_id = models.UUIDField(null=True, db_index=True)
    actor_name = models.CharField(max_length=150)
    token_id = models.UUIDField(null=True)
    token_name = models.CharField(max_length=100, default="")
    address = models.CharField(max_length=45, default="")
    request_id = models.CharField(max_length=64, default="")
    subject = models.CharField(max_length=80)
    subject_name = models.CharField(max_length=200, default="")
    data = models.JSONField(default=dict)
    previous_digest = models.CharField(max_length=64, default="", editable=False)
    digest = models.CharField(max_length=64, default="", editable=False)

    objects = AuditQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["id"], name="audit_unsealed", condition=Q(sequence__isnull=True)),
            models.Index(fields=["subject"], name="audit_subject"),
            models.Index(fields=["created_at"], name="audit_created_at"),
        ]

    def __str__(self) -> str:
        return f"{self.actor_name} {self.action} {self.subject_name}"


class AuditMark(models.Model):
    """A number up to which something was done with the audit trail, with the digest there."""

    class Name(models.TextChoices):
        PRUNED = "pruned"  # the anchor: the chain begins after it
        CHECKED = "checked"  # intact so far; with a `problem`, broken there
        SYSLOG = "syslog"  # sent so far

    name = models.CharField(max_length=10, choices=Name.choices, primary_key=True)
    sequence = models.BigIntegerField(default=0)
    digest = models.CharField(max_length=64, default="0" * 64)
    at = models.DateTimeField(db_default=Now())
    problem = models.CharField(max_length=300, default="")

    def __str__(self) -> str:
        return f"{self.name} {self.sequence}"

    @classmethod
    def of(cls, name: str) -> AuditMark:
        """Return the mark `name`, at the beginning when it was never set."""
        return cls.objects.filter(name=name).first() or cls(name=name)
