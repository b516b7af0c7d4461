"""Tokens: from where they may be used, what they may hand out, rotation, last use."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from accounts import expiring, rotation, tokens
from accounts.actors import Actor
from accounts.key_pairs import find_live_pair
from accounts.models import ApiToken, AuditEvent, Role, User
from accounts.permissions import ALL, PERMISSIONS, SCOPES
from accounts.restrictions import WrongNetwork, check_network
from accounts.roles import SHIPPED_ROLES
from accounts.viewers import Viewers
from events.models import Event
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.api.conftest import Api, is_problem

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db


def make(user: User, **options: Any) -> tuple[ApiToken, str]:
    options.setdefault("scopes", ["admin"])
    return tokens.create_token(Actor(user), name="ci", **options)


def age(token: ApiToken, **seconds: float) -> None:
    """Let moments of a token be so many seconds ago."""
    ApiToken.objects.filter(pk=token.pk).update(
        **{name: timezone.now() - timedelta(seconds=ago) for name, ago in seconds.items()}
    )


@pytest.mark.parametrize(
    ("networks", "inside", "outside"),
    [
        (["10.0.0.0/8"], ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.1", "::1", "", "unix:"]),
        (["10.1.2.3"], ["10.1.2.3"], ["10.1.2.4"]),
        (["fd00::/8", "192.0.2.0/24"], ["fd12::1", "192.0.2.9"], ["fe80::1", "192.0.3.1"]),
        (None, ["10.1.2.3", "", "nonsense"], []),
    ],
)
def test_networks_of_both_versions(
    networks: list[str] | None, inside: list[str], outside: list[str]
) -> None:
    token = ApiToken(networks=networks)
    for address in inside:
        check_network(token, address)
    for address in outside:
        with pytest.raises(WrongNetwork):
            check_network(token, address)


@pytest.mark.parametrize("networks", [[], ["10.0.0.1/8"], ["example.com"], ["10.0.0.0/40"], [""]])
def test_what_is_no_network_is_told(bob: User, networks: list[str]) -> None:
    with pytest.raises(Invalid) as refusal:
        make(bob, networks=networks)
    assert "networks" in refusal.value.errors


def test_a_wrong_network_is_refused_with_its_code_and_audited(bob: User) -> None:
    token, text = make(bob, networks=["10.0.0.0/8", "fd00::/8"])
    api = Api(text)
    assert api.client.get("/api/v2/me/", headers=api.headers, REMOTE_ADDR="10.7.7.7").json()[
        "token"
    ]["networks"] == ["10.0.0.0/8", "fd00::/8"]
    refused = api.client.get("/api/v2/me/", headers=api.headers, REMOTE_ADDR="192.0.2.1")
    assert is_problem(refused, 403, "token_network")
    assert "192.0.2.1" in refused.json()["detail"]
    event = AuditEvent.objects.get(outcome="refused")
    assert (event.token_id, event.address) == (token.pk, "192.0.2.1")
    assert event.data["code"] == "token_network"
    # A wrong secret sounds as ever, from wherever.
    wrong = Api(text[:-1] + "!").client
    headers = {"Authorization": f"Bearer {text[:-1]}!"}
    assert is_problem(
        wrong.get("/api/v2/me/", headers=headers, REMOTE_ADDR="192.0.2.1"), 401, "bad_token"
    )


def test_a_stream_is_refused_from_a_wrong_network_and_ends_with_the_old_secret(alice: User) -> None:
    token, text = make(alice, networks=["10.0.0.0/8"])

    def scope(address: str, text: str = text) -> dict[str, Any]:
        headers = [(b"authorization", f"Bearer {text}".encode())]
        return {"headers": headers, "client": (address, 1)}

    guard = Viewers()
    assert guard.identify(scope("192.0.2.1"), tokens=True) is None
    assert AuditEvent.objects.get(outcome="refused").action == "events.follow"
    viewer = guard.identify(scope("10.0.0.1"), tokens=True)
    assert viewer
    _, new = rotation.rotate_token(Actor(alice), token)
    second = guard.identify(scope("10.0.0.1", new), tokens=True)
    assert second
    assert set(guard.check([viewer, second])) == {viewer, second}
    rotation.end_overlap(Actor(alice), token)
    assert set(guard.check([viewer, second])) == {second}


def test_a_token_hands_out_nothing_wider_than_itself(alice: User) -> None:
    def maker(**options: Any) -> Actor:
        return Actor(alice, make(alice, **options)[0])

    def hand_out(actor: Actor, **options: Any) -> None:
        tokens.create_token(actor, name="x", scopes=["read"], **options)

    soon = timezone.now() + timedelta(hours=1)
    template = User().pk  # any id
    narrow = maker(networks=["10.0.0.0/8"], templates=[template], expires_at=soon)
    fits: dict[str, Any] = {
        "networks": ["10.1.0.0/16", "10.9.9.9"],
        "templates": [template],
        "expires_at": soon - timedelta(minutes=1),
    }
    hand_out(narrow, **fits)
    wider: list[dict[str, Any]] = [
        {"networks": None},
        {"networks": ["10.0.0.0/7"]},
        {"networks": ["10.1.0.0/16", "::/0"]},
        {"templates": None},
        {"templates": [template, User().pk]},
        {"expires_at": None},
        {"expires_at": soon + timedelta(seconds=1)},
    ]
    for change in wider:
        with pytest.raises(Forbidden) as refusal:
            hand_out(narrow, **fits | change)
        assert refusal.value.code == "token_scope"
    with pytest.raises(Forbidden):
        hand_out(maker(maximum_vms=5), maximum_vms=1)
    with pytest.raises(Forbidden):
        hand_out(maker(scopes=["vms"]))
    # Nor does it get the secret of a wider one by rotating that.
    wide, _ = make(alice)
    with pytest.raises(Forbidden):
        rotation.rotate_token(narrow, wide)
    assert narrow.token
    rotation.rotate_token(narrow, narrow.token)


def test_a_token_never_can_do_more_than_its_account(alice: User, bob: User) -> None:
    """Every role × every scope, and some together; and again when the role is taken away."""
    for name, permissions in SHIPPED_ROLES.items():
        bob.groups.set([Role.objects.get(group__name=name).group])
        account = Actor(bob).permissions
        assert account == permissions & ALL
        for scopes in [*([scope] for scope in SCOPES), ["vms", "hosts"], ["read", "templates"]]:
            token = ApiToken(user=bob, scopes=scopes)
            actor = Actor(bob, token)
            assert actor.permissions <= account
            for code in account - actor.permissions:
                noun = PERMISSIONS[code].noun  # only writes are narrowed, and by their noun
                assert noun
                assert not {noun, "admin"} & set(scopes)
            before = Actor(bob, token)
            assert before.permissions == actor.permissions
    token, text = make(bob, scopes=["admin"])
    api = Api(text)
    bob.groups.set([Role.objects.get(group__name="Administrator").group])
    assert api.get("users/").status_code == 200
    assert "accounts.manage" in api.get("me/").json()["permissions"]
    bob.groups.clear()
    assert api.get("me/").json()["permissions"] == []
    assert is_problem(api.post("users/", {"username": "x", "roles": []}), 403)


def test_rotation_with_overlap_over_the_api(bob: User) -> None:
    token, old = make(bob, scopes=["vms", "admin"], maximum_vms=3)
    api = Api(old)
    made = api.post(f"tokens/{token.pk}/rotate/", {}, Idempotency_Key="k")
    assert made.status_code == 200
    body = made.json()
    new = body["token"]
    assert (body["id"], body["maximum_vms"]) == (str(token.pk), 3)
    assert body["previous"]["prefix"] == token.prefix
    assert "token" not in api.get(f"tokens/{token.pk}/").json()
    assert is_problem(
        api.post(f"tokens/{token.pk}/rotate/", {}, Idempotency_Key="k"), 409, "shown_once"
    )
    assert is_problem(api.post(f"tokens/{token.pk}/rotate/", {}), 409, "overlap_open")
    for text in (old, new):
        assert Api(text).get("me/").json()["token"]["id"] == str(token.pk)
    age(token, previous_ends_at=1)
    assert is_problem(Api(old).get("me/"), 401, "bad_token")
    assert Api(new).get("me/").json()["token"]["previous"] is None

    # Without an overlap everything before it ends at once.
    newer = Api(new).post(f"tokens/{token.pk}/rotate/", {"overlap_seconds": 3600}).json()["token"]
    newest = Api(newer).post(f"tokens/{token.pk}/rotate/", {"overlap_seconds": 0}).json()["token"]
    for text in (old, new, newer):
        assert is_problem(Api(text).get("me/"), 401, "bad_token")
    last = Api(newest).post(f"tokens/{token.pk}/rotate/", {}).json()["token"]
    assert Api(last).post(f"tokens/{token.pk}/end-overlap/").json()["previous"] is None
    assert is_problem(Api(newest).get("me/"), 401, "bad_token")
    # And both ends with the token.
    final = Api(last).post(f"tokens/{token.pk}/rotate/", {}).json()["token"]
    Api(final).post(f"tokens/{token.pk}/revoke/")
    for text in (last, final):
        assert is_problem(Api(text).get("me/"), 401, "bad_token")
    with pytest.raises(Conflict):
        rotation.rotate_token(Actor(bob), token)
    for secret in (old, new, newest):
        assert secret not in str(list(AuditEvent.objects.values()))


def test_last_use_of_each_secret_is_written_once_a_minute(
    bob: User, django_assert_num_queries: Callable[..., Any]
) -> None:
    token, old = make(bob, scopes=["read"])

    def use(text: str, address: str) -> None:
        found = tokens.find_live(text, address)
        assert found
        tokens.note_use(found, address)

    use(old, "10.0.0.1")
    with django_assert_num_queries(1):
        use(old, "10.0.0.2")
    token.refresh_from_db()
    assert token.last_used_address == "10.0.0.1"
    age(token, last_used_at=61)
    use(old, "10.0.0.2")
    _, new = rotation.rotate_token(Actor(bob), token)
    token.refresh_from_db()
    assert token.previous_used_address == "10.0.0.2"
    assert token.last_used_at is None
    use(new, "")
    token.refresh_from_db()
    assert token.last_used_at
    assert token.last_used_address is None


def test_pages_rotate_and_show_both_secrets(
    as_: Callable[..., Any], bob: User, charlie: User
) -> None:
    token, old = make(bob, networks=["10.0.0.0/8"], maximum_vms=2)
    page = f"/tokens/{token.pk}/"
    assert as_(charlie).get(f"{page}rotate/").status_code == 404
    client = as_(bob)
    assert b"old secret works for" in client.get(f"{page}rotate/").content
    answer = client.post(f"{page}rotate/", {"overlap_seconds": "3600"})
    new = answer.context["clear_text"]
    assert new in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    shown = client.get(page).content.decode()
    assert new not in shown
    token.refresh_from_db()
    for part in (token.prefix, token.previous_prefix, "10.0.0.0/8", "End the old secret"):
        assert part in shown
    assert client.post(f"{page}rotate/", {"overlap_seconds": "3600"}).status_code == 409
    client.post(f"{page}end-overlap/")
    assert tokens.find_live(old, "10.0.0.1") is None
    assert tokens.find_live(new, "10.0.0.1") == token


def test_unused_tokens_are_found(bob: User) -> None:
    text = make(bob, scopes=["read"])[1]
    unused, _ = make(bob, scopes=["read"])
    long_ago, _ = make(bob, scopes=["read"])
    month = 31 * 86_400
    age(unused, created_at=month)
    age(long_ago, created_at=2 * month, last_used_at=month)
    ids = {row["id"] for row in Api(text).get("tokens/?unused_days=30").json()["results"]}
    assert ids == {str(unused.pk), str(long_ago.pk)}
    assert is_problem(Api(text).get("tokens/?unused_days=0"), 400)


def test_an_expiring_token_is_told_of_once(
    as_: Callable[..., Any], bob: User, settings: Any
) -> None:
    def told() -> list[Any]:
        return list(Event.objects.filter(kind="token.expiring"))

    soon = timezone.now() + timedelta(days=settings.TOKEN_WARNING_DAYS - 1)
    token, _ = make(bob, expires_at=soon)
    make(bob, expires_at=soon + timedelta(days=2))
    make(bob)
    revoked, _ = make(bob, expires_at=soon)
    tokens.revoke_token(Actor(bob), revoked)
    assert (expiring.warn(), expiring.warn()) == (1, 0)
    [event] = told()
    assert (event.subject, event.owner_id) == (f"token:{token.pk}", bob.pk)
    assert event.data == {"name": "ci", "account": "bob", "expires_at": soon.isoformat()}
    page = as_(bob).get("/tokens/").content.decode()
    assert page.count("expiring") == 1
    settings.TOKEN_WARNING_DAYS = 0
    ApiToken.objects.update(expiry_warned_at=None)
    assert expiring.warn() == 0


def test_key_pairs_and_changes_over_the_api(bob: User) -> None:
    api = Api(make(bob)[1])
    asked = {"name": "action", "scopes": ["vms"], "key": "my key", "maximum_vms": 2}
    made = api.post("tokens/", asked).json()
    assert (made["key"], made["prefix"], len(made["secret"])) == ("MY_KEY", "MY_KEY", 43)
    pair = find_live_pair(made["token"], "10.0.0.1")
    assert pair and pair.maximum_vms == 2
    assert is_problem(api.post("tokens/", asked), 409, "key_taken")
    assert is_problem(api.post("tokens/", asked | {"key": "b", "secret": "a:b"}), 400)
    assert is_problem(api.post("tokens/", {"name": "x", "scopes": ["vms"], "secret": "s"}), 400)
    own = api.post("tokens/", asked | {"key": "b", "secret": "chosen"}).json()
    assert (own["secret"], find_live_pair(own["token"], "") is not None) == ("chosen", True)

    url = f"tokens/{made['id']}/"
    shown = api.get(url)
    assert "secret" not in shown.json() and "token" not in shown.json()
    tag = shown["ETag"]
    changes = {"scopes": ["read"], "networks": ["10.0.0.0/8"], "maximum_vms": None}
    changed = api.patch(url, changes, If_Match=tag)
    assert changed.status_code == 200, changed.content
    assert {name: changed.json()[name] for name in changes} == changes
    assert api.patch(url, changes, If_Match=tag).status_code == 412
    with pytest.raises(WrongNetwork):
        find_live_pair(made["token"], "11.0.0.1")
    assert is_problem(api.patch(url, {"templates": ["absent"]}), 400)
    narrow = Api(make(bob, networks=["127.0.0.0/8"])[1])
    assert is_problem(narrow.patch(url, {"networks": None}), 403, "token_scope")
    assert is_problem(Api(make(bob, scopes=["vms"])[1]).patch(url, changes), 403, "token_scope")
