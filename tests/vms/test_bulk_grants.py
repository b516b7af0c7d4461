"""Many grants given and revoked at once, each after a preview that says exactly what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actors import Actor
from accounts.models import Role, User
from jobs import batches
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.api.conftest import Api, make_token
from tests.vms.conftest import reread
from tests.vms.test_access import make
from vms import bulk, bulk_grants, grants, templates
from vms.bulk_grants import Terms
from vms.models import Grant, Template

if TYPE_CHECKING:
    from django.test import Client

    from tests.vms.conftest import Pool, Worker


@pytest.fixture
def root(alice: User) -> Actor:
    return Actor(user=alice)


@pytest.fixture
def two(root: Actor) -> list[Template]:
    return [make(root, "one"), make(root, "two")]


@pytest.fixture
def developer() -> Role:
    return Role.objects.get(group__name="Developer")


def test_the_preview_is_what_happens(
    root: Actor, two: list[Template], bob: User, developer: Role
) -> None:
    grants.grant_template(root, template=two[0], user=bob)
    terms = Terms(maximum_vms=2)
    asked: dict[str, Any] = {"templates": two, "users": [bob], "roles": [developer]}
    seen = bulk_grants.preview(root, **asked, terms=terms)
    assert [(pair.template.name, pair.subject_name, pair.why_not) for pair in seen.pairs] == [
        ("one", "bob", "It has as much already."),
        ("one", "Developer", ""),
        ("two", "bob", ""),
        ("two", "Developer", ""),
    ]
    before = Grant.objects.count()
    job = bulk_grants.grant_many(root, **asked, terms=terms, selection=seen.selection)
    assert Grant.objects.count() == before + 3
    assert job.result["passed_over"] == 1
    made = Grant.objects.filter(pk__in=job.result["granted"])
    assert {(one.template.name, one.subject_name, one.maximum_vms) for one in made} == {
        ("one", "role Developer", 2),
        ("two", "bob", 2),
        ("two", "role Developer", 2),
    }
    with pytest.raises(Conflict, match="changed since"):
        bulk_grants.grant_many(root, **asked, terms=terms, selection=seen.selection)
    with pytest.raises(Conflict, match="as much already"):
        bulk_grants.grant_many(root, **asked, terms=terms)


@pytest.mark.parametrize(
    ("wanted", "covered"),
    [
        (Terms(), False),
        (Terms(maximum_vms=3), True),
        (Terms(maximum_vms=4), False),
        (Terms(level="manage", maximum_vms=1), False),
    ],
)
def test_only_what_gives_no_more_is_passed_over(
    root: Actor, two: list[Template], bob: User, wanted: Terms, covered: bool
) -> None:
    grants.grant_template(root, template=two[0], user=bob, maximum_vms=3)
    seen = bulk_grants.preview(root, templates=two[:1], users=[bob], terms=wanted)
    assert bool(seen.pairs[0].why_not) is covered


def test_bad_terms_grant_nothing_at_all(root: Actor, two: list[Template], bob: User) -> None:
    before = Grant.objects.count()
    with pytest.raises(Invalid):
        bulk_grants.grant_many(root, templates=two, users=[bob], terms=Terms(maximum_vms=0))
    assert Grant.objects.count() == before
    with pytest.raises(Invalid):
        bulk_grants.preview(root, templates=two, terms=Terms())


def test_a_manager_of_one_template_grants_that_one(
    root: Actor, two: list[Template], bob: User, charlie: User
) -> None:
    grants.grant_template(root, template=two[0], user=charlie, level="manage")
    grants.grant_template(root, template=two[1], user=charlie)
    manager = Actor(user=charlie)
    seen = bulk_grants.preview(manager, templates=two, users=[bob], terms=Terms())
    assert [not pair.why_not for pair in seen.pairs] == [True, False]
    job = bulk_grants.grant_many(manager, templates=two, users=[bob], terms=Terms())
    assert [grant.template for grant in Grant.objects.filter(user=bob)] == [two[0]]
    assert job.result["passed_over"] == 1
    templates.revoke_template(root, two[0])
    gone = [Template.objects.get(pk=two[0].pk)]
    seen = bulk_grants.preview(manager, templates=gone, users=[bob], terms=Terms())
    assert "revoked" in seen.pairs[0].why_not


@pytest.mark.stores
def test_many_grants_are_revoked_with_a_choice_after_their_hits_were_shown(
    pool: Pool, worker: Worker, developer: Role
) -> None:
    assert pool.template
    vm = pool.ask(name="runs")
    worker.until(lambda: reread(vm).state == "running")
    grants.grant_template(pool.alice, template=pool.template, role=developer)
    rows = bulk.grant_rows(pool.alice).exclude(user=pool.alice.user_id)
    seen = batches.preview(pool.alice, "grant.revoke", rows)
    assert (seen.total, seen.ready) == (2, 2)
    assert [hit.name for hit in seen.hits or []] == ["runs"]
    batch = batches.request(
        pool.alice,
        "grant.revoke",
        rows,
        options={"running_vms": "delete"},
        selection=seen.selection,
    )
    worker.finish(batch)
    assert batch.result == {"done": 2}
    worker.until(lambda: reread(vm).state == "deleted")
    with pytest.raises(Forbidden):
        pool.ask()
    again = batches.preview(pool.alice, "grant.revoke", bulk.grant_rows(pool.alice))
    assert [one.reason for one in again.refused] == ["It was revoked already."] * 2
    mine = batches.preview(pool.bob, "grant.revoke", bulk.grant_rows(pool.bob))
    assert mine.ready == 0


def test_the_api_previews_and_grants(root: Actor, two: list[Template], bob: User) -> None:
    api = Api(make_token(root.user, "templates"))
    body = {"templates": ["one", "two"], "users": ["bob"], "level": "use"}
    seen = api.post("grants/preview/", body).json()
    assert [pair["why_not"] for pair in seen["pairs"]] == ["", ""]
    answer = api.post("grants/many/", body | {"selection": seen["selection"]})
    assert answer.status_code == 202, answer.content
    assert len(answer.json()["result"]["granted"]) == 2
    assert api.post("grants/many/", body | {"selection": seen["selection"]}).status_code == 409
    bobs = Api(make_token(bob, "templates"))
    for path in ("grants/preview/", "grants/many/"):
        assert bobs.post(path, body).status_code == 403
        assert bobs.post(path, body | {"templates": ["none"]}).status_code == 400
    verb = {"verb": "grant.revoke", "filter": {"subject": "bob", "live": "true"}}
    preview = api.post("batches/preview/", verb).json()
    assert (preview["ready"], preview["hits"]) == (2, [])


def test_the_pages_show_first_and_grant_then(
    root: Actor, two: list[Template], bob: User, client: Client
) -> None:
    client.force_login(root.user)
    form: dict[str, Any] = {
        "templates": [one.pk for one in two],
        "users": [bob.pk],
        "level": "use",
    }
    before = Grant.objects.count()
    answer = client.post("/grants/new/", form)
    assert Grant.objects.count() == before
    assert b"2 of 2 are granted" in answer.content
    selection = answer.context["seen"].selection
    changed = client.post("/grants/new/", form | {"selection": selection, "maximum_vms": "3"})
    assert changed.status_code == 409  # other terms than were shown
    assert client.post("/grants/new/", form | {"selection": selection}).status_code == 303
    assert Grant.objects.count() == before + 2
    page = client.get("/grants/").content.decode()
    assert page.count('name="id"') == before + 2
    client.force_login(bob)
    page = client.get("/grants/").content.decode()
    assert page.count('id="grant-') == 2
    assert 'name="id"' not in page
    assert client.get("/grants/new/").status_code == 403
