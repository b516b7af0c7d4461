from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

from rest_framework import serializers

from accounts.models import ApiToken, AuditEvent, Invitation, User
from accounts.permissions import CODES, SCOPES
from accounts.revocation import CHOICES, COPY_CHOICES
from accounts.rotation import LONGEST_OVERLAP_SECONDS, OVERLAP_SECONDS
from accounts.service_accounts import LONGEST_DESCRIPTION
from orchestrator.api.serializers import (
    Flag,
    Input,
    Moment,
    OneOf,
    Output,
    Secret,
    Text,
    Texts,
    Whole,
)


class RoleOutput(Output):
    """A role and what it allows."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    shipped = serializers.BooleanField()
    weight = serializers.IntegerField()
    requires_second_factor = serializers.BooleanField()
    permissions = serializers.ListField(child=serializers.ChoiceField(CODES))


class RoleInput(Input):
    name = Text(max_length=100)
    permissions = serializers.ListField(child=OneOf(CODES), max_length=100)
    weight = Whole(min_value=1, max_value=100, required=False)


class RoleChanges(Input):
    requires_second_factor = Flag(
        required=False, help_text="Let nobody who holds it sign in without a second factor."
    )
    weight = Whole(min_value=1, max_value=100, required=False)
    name = Text(max_length=100, required=False)
    permissions = serializers.ListField(
        child=OneOf(CODES),
        max_length=100,
        required=False,
        help_text="Exactly these. Those of shipped roles stay as they are.",
    )
    running_vms = OneOf(
        CHOICES,
        required=False,
        help_text="What becomes of VMs of members who may not ask for VMs any more. Default: keep.",
    )


class UserReference(Output):
    """An account that something names."""

    id = serializers.UUIDField()
    name = serializers.CharField(source="username")


class UserOutput(Output):
    """An account."""

    id = serializers.UUIDField()
    username = serializers.CharField()
    email = serializers.CharField()
    kind = serializers.ChoiceField(User.Kind.choices)
    active = serializers.BooleanField(source="is_active")
    description = serializers.CharField(help_text="What a service account is for.")
    roles = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField(source="date_joined")
    last_login_at = serializers.DateTimeField(source="last_login", allow_null=True)

    def get_roles(self, user: User) -> list[str]:
        return sorted(group.name for group in user.groups.all())  # prefetched


class RightOutput(Output):
    """A permission that an account has, and the roles that give it."""

    permission = serializers.ChoiceField(CODES, source="permission.code")
    meaning = serializers.CharField(source="permission.label")
    roles = serializers.ListField(child=serializers.CharField(), help_text="Names.")


class RightsOutput(Output):
    """What an account may do by its roles. Templates are granted besides."""

    id = serializers.UUIDField(source="user.id")
    username = serializers.CharField(source="user.username")
    active = serializers.BooleanField(
        source="user.is_active", help_text="A deactivated account may do nothing."
    )
    rights = RightOutput(many=True)


class TokenRightsOutput(Output):
    """What a token may do: of what its account may, what its scopes cover."""

    id = serializers.UUIDField(source="token.id")
    name = serializers.CharField(source="token.name")
    user = UserReference(source="token.user")
    live = serializers.BooleanField(help_text="One that is not may do nothing.")
    rights = RightOutput(many=True)


class UserInput(Input):
    username = Text(max_length=150)
    email = Text(max_length=254, required=False, allow_blank=True)
    password = Secret(max_length=200, required=False)
    roles = Texts(help_text="Ids or names.")


class ServiceAccountInput(Input):
    username = Text(max_length=150)
    roles = Texts(help_text="Ids or names.")
    description = Text(
        max_length=LONGEST_DESCRIPTION,
        required=False,
        allow_blank=True,
        help_text="What it is for, and whom to ask.",
    )


class UserChanges(Input):
    roles = Texts(required=False, help_text="Exactly these roles: ids or names.")
    active = Flag(required=False)
    running_vms = OneOf(
        CHOICES,
        required=False,
        help_text="What becomes of the VMs that rest on what is taken away. Default: keep.",
    )


class ServiceAccountChanges(UserChanges):
    description = Text(max_length=LONGEST_DESCRIPTION, required=False, allow_blank=True)


class PreviousSecret(TypedDict):
    """The secret of a token before its last rotation."""

    prefix: str
    ends_at: datetime | None
    last_used_at: datetime | None
    last_used_address: str | None


class SignInOutput(Output):
    """How an account is signed in to."""

    id = serializers.UUIDField()
    username = serializers.CharField()
    locked_seconds = serializers.IntegerField(
        help_text="How long nobody may try it, after wrong passwords; 0: not locked."
    )
    password = serializers.BooleanField(help_text="It has one here.")
    second_factor = serializers.BooleanField(help_text="It has an authenticator or a passkey.")
    single_sign_on = serializers.BooleanField(help_text="It is linked to the provider.")


class SessionOutput(Output):
    """A browser that is signed in."""

    id = serializers.UUIDField()
    address = serializers.CharField()
    browser = serializers.CharField()
    method = serializers.CharField(help_text="`password, authenticator`; empty: not known.")
    began_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    current = serializers.BooleanField(source="is_current", help_text="It asks this.")


class SessionsOutput(Output):
    results = SessionOutput(many=True)


class LinkOutput(Output):
    """A link that lets a person set a password: the only time it is shown."""

    link = serializers.CharField()


class InvitationOutput(Output):
    """An account that a person may make for themself by a link."""

    id = serializers.UUIDField()
    username = serializers.CharField()
    email = serializers.CharField()
    roles = serializers.SerializerMethodField()
    invited_by = UserReference(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    accepted_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)

    def get_roles(self, invitation: Invitation) -> list[str]:
        return sorted(role.name for role in invitation.roles.all())  # prefetched


class NewInvitationOutput(InvitationOutput):
    """An invitation with its link: the only time it is shown."""

    link = serializers.CharField()


class InvitationInput(Input):
    username = Text(max_length=150)
    email = Text(max_length=254, required=False, allow_blank=True)
    roles = Texts(help_text="Ids or names.")


class TokenOutput(Output):
    """An API token, without its secret."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="What may be shown of it, to tell it from others.")
    key = serializers.CharField(allow_null=True, help_text="Of a key pair.")
    user = UserReference()
    scopes = serializers.ListField(child=serializers.ChoiceField(sorted(SCOPES)))
    templates = serializers.ListField(
        child=serializers.UUIDField(),
        allow_null=True,
        help_text="The only templates it may use; null: all that its account may.",
    )
    networks = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="From where alone it may be used, as CIDR; null: from anywhere.",
    )
    maximum_vms = serializers.IntegerField(
        allow_null=True, help_text="How many VMs that it asked for may exist at once."
    )
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    last_used_address = serializers.CharField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    created_by = UserReference(allow_null=True)
    rotated_at = serializers.DateTimeField(allow_null=True)
    previous = serializers.SerializerMethodField(
        help_text="The secret before the last rotation, while it still works."
    )

    def get_previous(self, token: ApiToken) -> PreviousSecret | None:
        if not token.has_previous:
            return None
        return {
            "prefix": token.previous_prefix,
            "ends_at": token.previous_ends_at,
            "last_used_at": token.previous_used_at,
            "last_used_address": token.previous_used_address,
        }


class NewTokenOutput(TokenOutput):
    """An API token with its clear text: the only time it is shown."""

    token = serializers.CharField(
        source="clear_text",
        help_text="What a client sends as `Authorization: Bearer`; of a key pair as `X-Api-Key`.",
    )
    secret = serializers.SerializerMethodField(help_text="Of a key pair.")

    def get_secret(self, token: ApiToken) -> str | None:
        return token.clear_secret


class TokenInput(Input):
    name = Text(max_length=100)
    scopes = serializers.ListField(child=OneOf(sorted(SCOPES)), min_length=1, max_length=20)
    user = Text(required=False, max_length=150, help_text="Id or name; yours by default.")
    templates = Texts(required=False, allow_null=True, help_text="Ids or names.")
    networks = Texts(required=False, allow_null=True, help_text="CIDR, such as `10.0.0.0/8`.")
    maximum_vms = Whole(required=False, allow_null=True, min_value=1)
    expires_at = Moment(required=False, allow_null=True)
    key = Text(
        required=False,
        max_length=100,
        help_text="Makes a key pair, for tools that send `X-Api-Key`: the key of your choice.",
    )
    secret = Secret(
        required=False,
        max_length=500,
        help_text="Of a key pair, without a colon. Without one it is made.",
    )


class TokenChanges(Input):
    scopes = serializers.ListField(
        child=OneOf(sorted(SCOPES)), min_length=1, max_length=20, required=False
    )
    templates = Texts(
        required=False, allow_null=True, help_text="Ids or names; null: all that its account may."
    )
    networks = Texts(required=False, allow_null=True, help_text="CIDR; null: from anywhere.")
    maximum_vms = Whole(required=False, allow_null=True, min_value=1)
    expires_at = Moment(required=False, allow_null=True)
    running_vms = OneOf(
        CHOICES,
        required=False,
        help_text="What becomes of VMs that it may not have any more. Default: keep.",
    )


class RotateInput(Input):
    overlap_seconds = Whole(
        min_value=0,
        max_value=LONGEST_OVERLAP_SECONDS,
        required=False,
        help_text=f"How long the old secret still works. Default: {OVERLAP_SECONDS}; 0: no more.",
    )


class RevokeInput(Input):
    running_vms = OneOf(CHOICES, required=False, help_text="Default: keep.")


class KillInput(RevokeInput):
    """What becomes of what was made from something that nobody may use any more."""

    cached_copies = OneOf(
        COPY_CHOICES,
        required=False,
        help_text="Copies of its images in the caches of hosts; deleting them needs the right to "
        "manage hosts. Default: keep.",
    )


class HitOutput(Output):
    """One thing that a revocation would reach."""

    kind = serializers.CharField(
        help_text="`vm`, or `task`: a deployment of which no further step begins."
    )
    id = serializers.UUIDField()
    name = serializers.CharField()
    state = serializers.CharField()
    queued = serializers.BooleanField(
        help_text="Waits for a host: cancelled whatever is chosen for running VMs."
    )
    owner = serializers.CharField()


class HitsOutput(Output):
    """What would be hit, and what may become of the VMs among it."""

    hits = HitOutput(many=True)
    choices = serializers.ListField(child=serializers.ChoiceField(CHOICES))


class NamedById(TypedDict):
    """Who did it, by the name of that time; the account may be gone."""

    id: str | None
    name: str


class AuditOutput(Output):
    """One line of the audit trail."""

    id = serializers.UUIDField()
    sequence = serializers.IntegerField(allow_null=True, help_text="Null until it is sealed.")
    created_at = serializers.DateTimeField()
    action = serializers.CharField()
    outcome = serializers.ChoiceField(AuditEvent.Outcome.choices)
    actor = serializers.SerializerMethodField()
    token = serializers.SerializerMethodField()
    address = serializers.CharField()
    request_id = serializers.CharField()
    subject = serializers.CharField()
    subject_name = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]
    digest = serializers.CharField(help_text="SHA-256 of the chain; empty until it is sealed.")

    def get_actor(self, event: AuditEvent) -> NamedById:
        return {"id": str(event.actor_id) if event.actor_id else None, "name": event.actor_name}

    def get_token(self, event: AuditEvent) -> NamedById | None:
        if event.token_id is None:
            return None
        return {"id": str(event.token_id), "name": event.token_name}


class MeOutput(Output):
    """The account that asks, what it may do, and the token in use."""

    id = serializers.UUIDField(source="user.id")
    username = serializers.CharField(source="user.username")
    email = serializers.CharField(source="user.email")
    kind = serializers.ChoiceField(User.Kind.choices, source="user.kind")
    roles = serializers.SerializerMethodField()
    permissions = serializers.SerializerMethodField()
    token = TokenOutput(allow_null=True)

    def get_roles(self, actor: Any) -> list[str]:
        return sorted(actor.user.groups.values_list("name", flat=True))

    def get_permissions(self, actor: Any) -> list[str]:
        return sorted(actor.permissions)
