"""How people sign in: sessions, waits, links to set a password, invitations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.socialaccount.models import SocialAccount
from rest_framework.response import Response

from accounts import invitations
from accounts.api import serializers
from accounts.api.querysets import roles_visible_to, users_visible_to
from accounts.models import Invitation, User
from accounts.signin import assurance, factors, links, locks, mail, sessions
from orchestrator.api.references import resolve
from orchestrator.api.serializers import Output
from orchestrator.api.views import ApiView, Lists, Posts, Shows

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request


class _OfUser(ApiView):
    tag = "users"
    model = User
    output: type[Output] = serializers.SignInOutput

    def rows(self) -> QuerySet[User]:
        return users_visible_to(self.actor).filter(kind=User.Kind.PERSON)

    def represent(self, thing: Any, **options: Any) -> Any:
        if isinstance(thing, User):
            thing = {
                "id": thing.pk,
                "username": thing.username,
                "locked_seconds": locks.wait_of(thing.username),
                "password": thing.has_usable_password(),
                "second_factor": assurance.has_one(thing),
                "single_sign_on": SocialAccount.objects.filter(user=thing).exists(),
            }
        return super().represent(thing, **options)


class SignIn(_OfUser, Shows):
    docs = {"GET": "Tell how an account is signed in to, and whether it has to wait."}


class SessionList(_OfUser):
    output = serializers.SessionsOutput
    docs = {"GET": "List the browsers that are signed in to an account, newest first."}

    def get(self, request: Request, **kwargs: Any) -> Response:
        current = request._request.session.session_key
        found = sessions.sessions_of(self.actor, self.target(), current)
        return Response(self.represent({"results": found}))


class _Acts(_OfUser, Posts):
    status = 200


class SessionEnd(_Acts):
    docs = {"POST": "End one session: the browser has to sign in again, its streams close."}

    def perform(self, data: dict[str, Any]) -> User:
        user: User = self.target()
        sessions.end_session(self.actor, user, self.kwargs["session"])
        return user


class SignOut(_Acts):
    docs = {"POST": "End all sessions of an account. Tokens go on."}

    def perform(self, data: dict[str, Any]) -> User:
        user: User = self.target()
        sessions.sign_out_everywhere(self.actor, user)
        return user


class Unlock(_Acts):
    permission = "accounts.manage"
    docs = {"POST": "Let an account be tried again at once after wrong passwords."}

    def perform(self, data: dict[str, Any]) -> User:
        user: User = self.target()
        locks.lift(self.actor, user)
        return user


class RemoveFactors(_Acts):
    permission = "accounts.manage"
    docs = {
        "POST": "Remove the second factors of somebody who lost them, and end their sessions. A "
        "password alone lets them in until they set up new ones."
    }

    def perform(self, data: dict[str, Any]) -> User:
        user: User = self.target()
        factors.remove_all(self.actor, user)
        return user


class ResetPassword(_Acts):
    post_output = serializers.LinkOutput
    shown_once = True
    permission = "accounts.manage"
    docs = {
        "POST": "Make a link with which the person sets a new password, once; that ends all their "
        "sessions. It is in `link`, this once."
    }

    def perform(self, data: dict[str, Any]) -> User:
        user: User = self.target()
        user.link = links.reset_link(self.actor, user)  # type: ignore[attr-defined]
        return user

    def answer(self, thing: Any) -> Response:
        link = links.absolute(self.request._request, thing.link)
        return Response(serializers.LinkOutput({"link": link}).data)


class _Invitations(ApiView):
    tag = "invitations"
    model = Invitation
    output = serializers.InvitationOutput

    def rows(self) -> QuerySet[Invitation]:
        rows = Invitation.objects.visible_to(self.actor).select_related("invited_by")
        return rows.prefetch_related("roles__group")


class _Sends(_Invitations, Posts):
    post_output = serializers.NewInvitationOutput
    shown_once = True
    permission = "accounts.manage"

    def sent(self, invitation: Invitation, secret: str) -> Invitation:
        """Mail the link, and keep it for the answer."""
        link = links.absolute(self.request._request, invitations.path_of(secret))
        mail.write_invitation(invitation, link)
        fresh: Invitation = self.find(invitation.pk, self.rows())
        fresh.link = link  # type: ignore[attr-defined]
        return fresh

    def answer(self, thing: Invitation) -> Response:
        body = serializers.NewInvitationOutput(thing).data
        headers = {"Location": self.location(thing)} if self.status == 201 else None
        return Response(body, status=self.status, headers=headers)


class InvitationList(_Sends, Lists):
    input = serializers.InvitationInput
    docs = {
        "GET": "List invitations.",
        "POST": "Invite a person. The link is in `link`, this once, and is mailed if mail is set "
        "up and there is an address.",
    }

    def perform(self, data: dict[str, Any]) -> Invitation:
        self.actor.require(self.permission)  # before roles are told from absent ones
        visible = roles_visible_to(self.actor)
        data["roles"] = [
            resolve(visible, reference, field="roles", name="group__name")
            for reference in data["roles"]
        ]
        return self.sent(*invitations.invite(self.actor, **data))


class InvitationItem(_Invitations, Shows):
    docs = {"GET": "Show an invitation. Its link is kept nowhere."}


class InvitationResend(_Sends):
    status = 200
    docs = {"POST": "Give an invitation a new link and a new end. The old link is dead."}

    def perform(self, data: dict[str, Any]) -> Invitation:
        invitation: Invitation = self.target()
        return self.sent(invitation, invitations.resend(self.actor, invitation))


class InvitationRevoke(_Invitations, Posts):
    status = 200
    permission = "accounts.manage"
    docs = {"POST": "Revoke an invitation: its link is dead."}

    def perform(self, data: dict[str, Any]) -> Invitation:
        invitations.revoke(self.actor, self.target())
        fresh: Invitation = self.target()
        return fresh
