"""Lists of environments and owners of tasks, by page and by API v2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from accounts import tokens
from accounts.actors import Actor
from accounts.models import AuditEvent
from deployments import granting
from deployments.models import EnvironmentAccess, Task
from deployments.running import control, owning
from orchestrator.refusals import Conflict, Forbidden, Invalid
from tests.deployments.running.conftest import L, prepared, told

if TYPE_CHECKING:
    from django.test import Client

    from accounts.models import User
    from tests.deployments.running.conftest import Engine


def api_of(user: User, *scopes: str) -> APIClient:
    _row, secret = tokens.create_token(Actor(user), name="ci", scopes=list(scopes))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def ok(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.content
    return answer.json()


def test_the_list_is_kept_by_api(engine: Engine, alice: User, olga: User, bob: User) -> None:
    api, by_olga = api_of(alice, "deployments"), api_of(olga, "deployments")
    base = f"/api/v2/environments/{engine.environment.pk}"
    given = {"user": "olga", "level": "control"}
    line = ok(api.post(f"{base}/access/", given, format="json"), 201)
    assert (line["user"]["name"], line["role"], line["level"]) == ("olga", None, "control")
    assert ok(by_olga.post(f"{base}/restrict/"), 202)["state"] == "done"
    assert ok(by_olga.get(f"{base}/"))["restricted"] is True
    # Whoever restricts it administers it: Olga is raised to that.
    listed = ok(by_olga.get(f"{base}/access/"))["results"]
    assert [(one["user"]["name"], one["level"]) for one in listed] == [("olga", "administer")]
    role = {"role": "Operator", "level": "deploy"}
    both = {"user": "olga", "role": "Operator", "level": "deploy"}
    assert (
        "either"
        in ok(by_olga.post(f"{base}/access/", both, format="json"), 400)["errors"]["user"][0]
    )
    ok(by_olga.post(f"{base}/access/", role, format="json"), 201)
    assert ok(api.post(f"{base}/restrict/"), 409)["detail"] == "staging is restricted already."
    narrow = api_of(alice, "vms")
    assert ok(narrow.post(f"{base}/open/"), 403)["code"] == "token_scope"
    at = f"{base}/access/{line['id']}/"
    assert ok(api.get(f"{at}impact/")) == {"hits": []}
    assert ok(api.delete(at), 202)["result"]["from"] == "olga"
    assert ok(api.get(at), 404)
    assert ok(by_olga.post(f"{base}/open/"), 403)["code"] == "environment_restricted"
    assert ok(by_olga.patch(f"{base}/", {"description": "x"}, format="json"), 403)
    found = ok(api.get(f"/api/v2/users/{olga.pk}/environments/"))["environments"]
    assert found == [
        {
            "environment": {"id": str(engine.environment.pk), "name": "staging"},
            "restricted": True,
            "levels": ["control", "deploy"],
            "why": "It is on the list by its role Operator: deploy.",
        }
    ]
    ok(api.post(f"{base}/open/"), 202)
    assert ok(api_of(bob, "deployments").get(f"{base}/access/"), 404)


def test_the_pages_give_show_and_take_away(
    engine: Engine, client: Client, alice: User, olga: User
) -> None:
    client.force_login(alice)
    base = f"/environments/{engine.environment.pk}"
    assert "Everybody whose roles allow it" in client.get(f"{base}/").content.decode()
    assert client.post(f"{base}/access/new/", {"user": olga.pk, "level": "deploy"}).status_code == (
        303
    )
    task = control.create(Actor(olga), prepared(engine.environment, L("a", told("1", "slow"))))
    control.start(Actor(olga), task)
    engine.settle()
    assert "No task is held by it now" in client.get(f"{base}/restrict/").content.decode()
    assert client.post(f"{base}/restrict/").status_code == 303
    page = client.get(f"{base}/").content.decode()
    assert "Only those on this list" in page
    line = EnvironmentAccess.objects.get(user=olga)
    asked = client.get(f"{base}/access/{line.pk}/revoke/").content.decode()
    assert "Shop 1.0" in asked
    assert "running steps end, then it rests" in asked
    may = client.get(f"/users/{olga.pk}/access/").content.decode()
    assert "It is on the list by itself: deploy." in may
    assert client.post(f"{base}/access/{line.pk}/revoke/").status_code == 303
    may = client.get(f"/users/{olga.pk}/access/").content.decode()
    assert "It is not on the list of this restricted environment." in may
    nobody = client.post(f"{base}/access/new/", {"level": "deploy"})
    assert (nobody.status_code, "either a user or a role" in nobody.content.decode()) == (400, True)
    client.force_login(olga)
    page = client.get(f"{base}/").content.decode()
    assert "Take off" not in page
    assert "/deployments/new/" not in page
    assert client.post(f"{base}/open/").status_code == 403
    assert client.get(f"{base}/edit/").status_code == 403
    shown = client.get(f"/tasks/{task.pk}/").content.decode()
    assert f"/tasks/{task.pk}/abort/" not in shown
    client.force_login(alice)
    client.post(f"{base}/open/")
    client.force_login(olga)
    assert f"/tasks/{task.pk}/abort/" in client.get(f"/tasks/{task.pk}/").content.decode()


def test_a_task_is_taken_over_and_assigned_by_its_own_right(
    engine: Engine, olga: User, bob: User, client: Client
) -> None:
    task = engine.make(L("a", told("1", "slow"), told("2")))
    engine.start(task)
    engine.settle()
    owning.take_over(Actor(olga), task)
    taken = engine.reread(task)
    # Whose it is does not change as whom its steps act.
    assert (taken.owner, taken.started_by) == (olga, engine.alice.user)
    told_of = AuditEvent.objects.get(action="task.taken_over")
    assert told_of.data == {
        "state": "executing",
        "before": {"owner": "alice"},
        "after": {"owner": "olga"},
    }
    with pytest.raises(Conflict, match="olga’s already"):
        owning.take_over(Actor(olga), taken)
    with pytest.raises(Invalid, match="bob may not control"):
        owning.assign(Actor(olga), taken, owner=bob)
    granting.restrict(engine.alice, engine.environment)
    Task.objects.filter(pk=task.pk).update(owner=None)
    with pytest.raises(Invalid, match="olga may not control"):
        owning.assign(engine.alice, task, owner=olga)
    with pytest.raises(Forbidden, match="control its tasks"):
        owning.take_over(Actor(olga), taken)
    granting.restrict(engine.alice, engine.environment, restricted=False)
    owning.take_over(Actor(olga), engine.reread(task))

    api = api_of(olga, "deployments")
    base = f"/api/v2/tasks/{task.pk}"
    assert ok(api.post(f"{base}/assign/", {"owner": "nobody"}, format="json"), 400)
    ok(api.post(f"{base}/assign/", {"owner": "alice"}, format="json"), 202)
    assert ok(api.get(f"{base}/"))["owner"]["name"] == "alice"
    mine = ok(api.get("/api/v2/tasks/", {"owner": str(olga.pk)}))["results"]
    assert mine == []
    ok(api.post(f"{base}/take-over/"), 202)

    client.force_login(olga)
    page = client.get(f"/tasks/{task.pk}/").content.decode()
    assert "/take-over/" not in page  # it is hers
    assert "Shop 1.0" in client.get("/tasks/", {"owner": "me"}).content.decode()
    alice = engine.alice.user
    assert alice
    assert client.post(f"/tasks/{task.pk}/assign/", {"owner": alice.pk}).status_code == 303
    assert "Shop 1.0" not in client.get("/tasks/", {"owner": "me"}).content.decode()
    client.post(f"/tasks/{task.pk}/take-over/")
    assert engine.reread(task).owner == olga

    role = olga.groups.get().role
    role.permissions = [one for one in role.permissions if one != "deployments.assign"]
    role.save()
    assert client.post(f"/tasks/{task.pk}/take-over/").status_code == 403
    assert "/assign/" not in client.get(f"/tasks/{task.pk}/").content.decode()
    engine.release("1")
    Task.objects.filter(pk=task.pk).update(state="done")
    with pytest.raises(Conflict, match="is done"):
        owning.take_over(engine.alice, task)
