"""Single sign-on, over HTTP, with a real provider in a process of its own."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from allauth.socialaccount.models import SocialApp

from accounts.actors import Actor
from accounts.models import AuditEvent, ProvidedRole, Role, User
from accounts.roles import sync_shipped_roles
from accounts.sso.provider import SsoProvider
from accounts.users import require_second_factor
from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, running_provider

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db(transaction=True)

ROLES = {"pool-admins": ["Administrator"], "makers": ["Developer"]}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


@pytest.fixture(autouse=True)
def _own_counts(settings: Any) -> None:
    """Count tries in this test alone."""
    backend = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": uuid4().hex}}


@pytest.fixture
def configured(settings: Any, provider: Provider) -> Provider:
    configure(settings, provider.url)
    return provider


def configure(settings: Any, url: str, **more: Any) -> None:
    """Set what the environment would; `orchestrator.settings` makes the second from the first."""
    app = {
        "provider_id": "sso",
        "name": "Keycloak",
        "client_id": CLIENT_ID,
        "secret": CLIENT_SECRET,
        "settings": {
            "server_url": url,
            "oauth_pkce_enabled": True,
            "scope": ["openid", "profile", "email"],
        },
    }
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
    wanted = {"OIDC_ISSUER": url, "OIDC_CLIENT_ID": CLIENT_ID, "OIDC_NAME": "Keycloak"}
    for name, value in {**wanted, "OIDC_ROLES": ROLES, **more}.items():
        setattr(settings, name, value)


class Browser(httpx.Client):
    """A browser with its cookies."""

    def sign_in(self, path: str = "/accounts/login/", **form: str) -> httpx.Response:
        """Press the button, go to the provider and come back."""
        return self.get(self.leave(path, **form))

    def leave(self, path: str = "/accounts/login/", **form: str) -> str:
        """Press the button; return where the provider is."""
        answer = self.post("/accounts/sso/login/", data=self.token(path) | form)
        assert answer.status_code == 200, answer.text
        found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.text)
        assert found, answer.text
        return unescape(found[1])

    def token(self, path: str = "/accounts/login/") -> dict[str, str]:
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(path).text)
        assert found
        return {"csrfmiddlewaretoken": found[1]}

    def who(self) -> str | None:
        answer = self.get("/api/v2/me/")
        return answer.json()["username"] if answer.is_success else None


@pytest.fixture
def browser(live_server: Any) -> Iterator[Browser]:
    with Browser(base_url=live_server.url, follow_redirects=True, timeout=20) as one:
        yield one


def roles(user: User) -> set[str]:
    return set(Role.objects.of(user.pk).values_list("group__name", flat=True))


def refusals() -> list[str]:
    events = AuditEvent.objects.filter(action="signin.refused").order_by("pk")
    return [event.data["code"] for event in events]


def test_roles_follow_the_groups_and_those_given_by_hand_stay(configured, browser, request):
    sync_shipped_roles()  # and there is no administrator: the first people may come this way
    configured.is_about(
        "u-1", preferred_username="mia", email="mia@example.com", groups=["makers", "others"]
    )
    answer = browser.sign_in(next="/account/")
    assert (answer.status_code, answer.url.path) == (200, "/account/")
    assert browser.who() == "mia"
    asked = configured.asked()
    assert asked["code_challenge_method"] == "S256"
    assert asked["nonce"] and asked["state"]
    mia = User.objects.get(username="mia")
    assert not mia.has_usable_password()
    assert mia.email == ""  # not verified by the provider
    assert roles(mia) == {"Developer"}
    # A role given by hand, and another group the next time.
    request.getfixturevalue("alice")
    mia.groups.add(Role.objects.get(group__name="Auditor").group)
    configured.is_about("u-1", preferred_username="renamed", groups=["pool-admins"])
    browser.cookies.clear()
    browser.sign_in()
    assert browser.who() == "mia"
    assert roles(mia) == {"Administrator", "Auditor"}
    assert set(ProvidedRole.objects.values_list("role__group__name", flat=True)) == {
        "Administrator"
    }
    changed = AuditEvent.objects.filter(action="user.roles_changed").latest("pk")
    assert changed.data["source"] == "single sign-on"
    assert (changed.data["before"], changed.data["after"]) == (
        {"roles": ["Auditor", "Developer"]},
        {"roles": ["Administrator", "Auditor"]},
    )
    # What was also given by hand is not taken with the group.
    mia.groups.add(Role.objects.get(group__name="Developer").group)
    for groups in (["makers"], []):
        configured.is_about("u-1", groups=groups)
        browser.cookies.clear()
        browser.sign_in()
    assert roles(mia) == {"Auditor", "Developer"}


def test_who_is_refused(configured, browser, alice, settings):
    def told(**person: Any) -> str:
        configured.is_about(**person)
        browser.cookies.clear()
        answer = browser.sign_in()
        assert (answer.status_code, browser.who()) == (403, None)
        assert "You are not signed in" in answer.text
        return answer.text

    assert "no group of yours" in told(sub="u-2", preferred_username="zoe", groups=["others"])
    assert not User.objects.filter(username="zoe").exists()
    # The name of a local account is nobody's by single sign-on.
    assert "an account “alice” already" in unescape(
        told(sub="u-3", preferred_username="ALICE", groups=["makers"]).replace("ALICE", "alice")
    )
    # A deactivated one, and a provider's admin group cannot help.
    configured.is_about("u-4", preferred_username="yan", groups=["makers"])
    browser.cookies.clear()
    browser.sign_in()
    User.objects.filter(username="yan").update(is_active=False)
    assert "deactivated" in told(sub="u-4", groups=["pool-admins"])
    assert roles(User.objects.get(username="yan")) == {"Developer"}
    # The last administrator's role is not taken.
    configured.is_about("u-5", preferred_username="root", groups=["pool-admins"])
    browser.cookies.clear()
    browser.sign_in()
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert "no administrator" in told(sub="u-5", groups=["makers"])
    assert refusals() == ["sso_unknown", "sso_name_taken", "account_inactive", "conflict"]
    event = AuditEvent.objects.get(action="signin.refused", data__code="account_inactive")
    assert (event.outcome, event.subject_name, event.address) == ("refused", "yan", "127.0.0.1")
    # Everybody the provider knows, when the setting says so; without any role.
    settings.OIDC_ALLOW_UNKNOWN = True
    configured.is_about("u-2", preferred_username="zoe", groups=["others"])
    browser.sign_in()
    assert browser.who() == "zoe"
    assert roles(User.objects.get(username="zoe")) == set()


FAULTS = {
    "nonce": "another sign-in",
    "signature": "not signed by a key",
    "issuer": "another issuer",
    "audience": "another client",
    "expired": "too old",
    "userinfo": "another person",
    "denied": "did not allow",
}


def test_a_provider_that_lies_is_not_believed(configured, browser, settings):
    for fault, sentence in FAULTS.items():
        configured.is_about("u-6", fault, preferred_username="mallory", groups=["pool-admins"])
        answer = browser.sign_in()
        assert answer.status_code == 403, fault
        assert sentence in answer.text, fault
    for fault, sentence in {"discovery": "another issuer", "down": "does not answer"}.items():
        configured.is_about("u-6", fault)
        answer = browser.post("/accounts/sso/login/", data=browser.token())
        assert answer.status_code == 403
        assert sentence in answer.text
    # The way back without the way there, as by a link that somebody sent.
    configured.is_about("u-6", groups=["pool-admins"])
    there = httpx.get(browser.leave())
    stranger = Browser(base_url=browser.base_url)
    answer = stranger.get(there.headers["Location"])
    assert answer.status_code == 403
    assert "in another browser" in answer.text
    assert (browser.who(), stranger.who()) == (None, None)
    # A provider that is gone altogether, and one at an address that nothing may be sent to.
    for url in ("http://127.0.0.1:1", "http://169.254.169.254"):
        configure(settings, url)
        answer = browser.post("/accounts/sso/login/", data=browser.token())
        assert (answer.status_code, "does not answer" in answer.text) == (403, True)
    assert not User.objects.exists()
    expected = ["subject" if fault == "userinfo" else fault for fault in FAULTS]
    expected += ["issuer", "unreachable", "state", "unreachable", "unreachable"]
    assert refusals() == [f"sso_{code}" for code in expected]


def test_a_local_account_is_linked_by_verified_address_only(configured, browser, alice, settings):
    User.objects.filter(pk=alice.pk).update(email="alice@example.com")
    person = {"preferred_username": "a.example", "email": "Alice@example.com"}
    for link, verified in [(False, True), (True, False)]:
        settings.OIDC_LINK_BY_EMAIL = link
        configured.is_about("u-7", email_verified=verified, **person)
        assert browser.sign_in().status_code == 403
    settings.OIDC_LINK_BY_EMAIL = True
    configured.is_about("u-7", email_verified=True, **person)
    assert browser.sign_in().status_code == 200
    assert browser.who() == "alice"
    alice.refresh_from_db()
    assert alice.has_usable_password()
    assert roles(alice) == {"Administrator"}  # given by hand
    # Somebody else with the same address is not let in to the linked account.
    configured.is_about("u-8", email_verified=True, **person)
    browser.cookies.clear()
    assert browser.sign_in().status_code == 403
    assert refusals()[-1] == "sso_linked"


def test_without_a_provider_there_is_no_button(client, settings):
    assert b"sso/login" not in client.get("/accounts/login/").content
    assert client.post("/accounts/sso/login/").status_code == 404
    assert client.get("/accounts/sso/callback/?code=x&state=y").status_code == 404
    configure(settings, "http://127.0.0.1:1")
    assert b"Sign in with Keycloak" in client.get("/accounts/login/").content
    assert client.get("/accounts/sso/login/").status_code == 405


def test_the_provider_may_vouch_for_a_second_factor_and_for_a_fresh_proof(
    configured, browser, settings, alice
):
    settings.OIDC_SECOND_FACTOR = ["mfa", "https://example.com/strong"]
    require_second_factor(Actor(alice), Role.objects.get(group__name="Developer"), True)
    person = {"sub": "u-9", "preferred_username": "vera", "groups": ["makers"]}
    for more, wanted in [
        ({}, "/account/second-factor/"),
        ({"amr": ["pwd"], "acr": "weak"}, "/account/second-factor/"),
        ({"amr": ["pwd", "mfa"]}, "/account/"),
        ({"acr": "https://example.com/strong"}, "/account/"),
    ]:
        configured.is_about(**person, **more)
        browser.cookies.clear()
        assert browser.sign_in(next="/account/").url.path == wanted, more
    # Signed in at the provider since an hour: that is no proof for what is dangerous.
    settings.OIDC_SECOND_FACTOR = ["mfa"]
    configured.is_about(**person, amr=["mfa"], auth_age=3600)
    browser.cookies.clear()
    browser.sign_in()
    answer = browser.get("/tokens/new/")
    assert answer.url.path == "/account/confirm/"
    assert "Confirm with Keycloak" in answer.text
    body = {"name": "x", "scopes": ["read"]}
    headers = {"X-CSRFToken": browser.cookies["csrftoken"]}
    answer = browser.post("/api/v2/tokens/", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    # The provider is told to ask again; one that does not is not believed.
    form = {"afresh": "1", "next": "/tokens/new/"}
    answer = browser.sign_in("/account/confirm/", **form)
    assert (answer.status_code, "did not ask again" in answer.text) == (403, True)
    assert (configured.asked()["prompt"], configured.asked()["max_age"]) == ("login", "0")
    configured.is_about(**person, amr=["mfa"])
    assert browser.sign_in("/account/confirm/", **form).url.path == "/tokens/new/"


def test_another_provider_with_the_same_subjects_knows_other_people(settings, rf):
    configure(settings, "http://127.0.0.1:1")
    provider = SsoProvider(rf.get("/"), SocialApp(provider="openid_connect", name="Keycloak"))
    claims = {"id_token": {"sub": "u-1"}}
    uid = provider.extract_uid(claims)
    assert provider.extract_uid(claims) == uid
    settings.OIDC_ISSUER = "http://127.0.0.1:2"
    assert provider.extract_uid(claims) != uid
