"""Every write is in the audit trail: done or refused, by whom, with which token, from where."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from accounts.actors import Actor
from accounts.models import AuditEvent
from accounts.tokens import create_token, revoke_token
from jobs.models import Job
from tests.routes.test_table import BODIES, CASES, FORM, address, body_of
from vms import leases
from vms.models import Lease, Placement, VirtualMachine

if TYPE_CHECKING:
    from tests.routes.conftest import World

ADDRESS = "10.9.8.7"
WRITES = [(name, method) for name, method in CASES if method != "GET"]
# What pages send where the table's form is not accepted.
FORMS: dict[str, dict[str, Any]] = {
    "accounts:user-create": {"username": "new"},
    "accounts:describe-service": {"description": "For tests"},
    "accounts:role-create": {"name": "new", "permissions": ["hosts.view"]},
    "accounts:change-role": {"name": "new", "permissions": [], "running_vms": "keep"},
    "accounts:weigh-role": {"weight": 3},
    "accounts:webhook-create": {"name": "new", "url": "http://10.0.0.1/"},
    "console:token-create": {"name": "new", "scopes": ["read"]},
    "console:token-change": {"scopes": ["read"], "maximum_vms": 3, "running_vms": "keep"},
    "vms:hold-queue": {"note": "test"},
    "vms:decline-access": {"answer": "no"},
    "vms:ask-access": {"template": "new", "reason": "test"},
    "vms:hold": {"reason": "test", "hours": 1},
    "vms:upload": {"path": "/a", "remote_path": "/b"},
    "vms:rename": {"name": "other"},
    "vms:configure": {"time-sync": "off"},
    "vms:share-folder": {"name": "src", "path": "/Users/Shared/src"},
    "vms:unshare-folder": {"name": "src"},
    "vms:execute": {"command": "true"},
}
# What has to be so before a verb makes sense.
FIRST = {
    "api:host-uncordon": ["api:host-cordon"],
    "api:host-enable": ["api:host-disable"],
    "api:host-undrain": ["api:host-drain"],
    "api:queue-release": ["api:queue-hold"],
    "api:environment-open": ["api:environment-restrict"],
    "api:token-end-overlap": ["api:token-rotate"],
    "accounts:token-end-overlap": ["api:token-rotate"],
    "vms:release-queue": ["api:queue-hold"],
}
# What needs more than this pool has.
NOT_DONE = {
    "api:anything-else": "nothing is there",
    "api:hosts": "a host that answers: tests/hosts/test_enrolment.py",
    "api:host-adopt": "a foreign VM: tests/vms/test_adoption.py",
    "api:host-unregister": "a foreign VM: tests/vms/test_registering.py",
    "api:job-retry": "a batch that failed in part: tests/vms/test_bulk.py",
    "api:access-request-withdraw": "only who asked may: below",
    "api:user-remove-factors": "second factors: tests/accounts/test_assurance.py",
    "api:user-session-end": "a session that is listed: tests/accounts/test_signin.py",
    "api:image-unrevoke": "an image that is revoked: tests/catalog/test_manifests.py",
    "api:image-remove": "an image of no template: tests/catalog/test_manifests.py",
    "api:image-verify": "a storage: tests/catalog/test_packs.py",
    "api:source-push": "a storage: tests/catalog/test_packs.py",
    "api:host-cache-collect": "a quota that is passed: tests/vms/test_caches.py",
    "api:artifacts": "a file as the body: tests/deployments/test_api.py",
    "api:tasks": "a package with steps: tests/deployments/test_api.py",
    **{
        f"api:task-{verb}": "a plan with steps: tests/deployments/running"
        for verb in (
            *("abort", "approve", "archive", "assign", "cancel", "continue", "pause"),
            *("rollback", "rollback-preview", "schedule", "skip", "start", "stop"),
            *("take-over", "unskip"),
        )
    },
}
CHANGES: dict[str, dict[str, Any]] = {
    "api:application": {"description": "For tests"},
    "api:environment": {"description": "For tests"},
    "api:dictionary": {"description": "For tests"},
    "api:image": {"description": "For tests"},
    "api:role": {"weight": 4},
    "api:user": {"active": False},
    "api:service-account": {"roles": ["Developer"]},
    "api:token": {"maximum_vms": 3},
    "api:webhook": {"kinds": ["vm"]},
    "api:host": {"tags": ["fast"]},
    "api:template": {"description": "For tests"},
    "api:template-pool": {"size": 2},
    "api:quota": {"maximum_vms": 3},
}
# Writes that change nothing that anybody else sees, so nothing of them is told.
SILENT = {
    "api:batch-preview": "shows what a batch would do",
    "api:grant-preview": "shows what granting would do",
    "api:deployment-preview": "shows what deploying would do",
    "console:theme": "a cookie of the reader's own browser",
}
# Its name says all that is done.
TELLS_ALL = {
    *("dictionary.deleted", "enrolment_token.revoked", "environment.deleted"),
    *("host.inventory_requested", "invitation.renewed", "invitation.revoked", "package.deleted"),
    *("password.link_made", "user.unlocked"),
}
# A 404 here is no refusal for a right's sake: strangers come with a secret, or with none.
FOR_STRANGERS = {"api:anything-else", "accounts:setup", "accounts:accept"}


@dataclass
class Asked:
    status: int
    events: list[AuditEvent]


def put(ids: dict[str, Any], state: str) -> None:
    """Make the VM one that a host has, in `state`."""
    placement = Placement.objects.get(vm=ids["vm"])
    Placement.objects.filter(pk=placement.pk).update(current=True, closed_at=None, host_vm_id="{1}")
    vm = VirtualMachine.objects.filter(pk=ids["vm"])
    vm.update(state=state, desired_state=state, host=ids["host"])
    Job.objects.filter(subject=f"vm:{ids['vm']}").update(state="done", finished_at=timezone.now())
    leases.begin(vm.get())
    Lease.objects.filter(vm=ids["vm"]).update(held_until=timezone.now() + timedelta(hours=1))


def ask(
    client: Client, world: World, name: str, method: str, whose: str, *, state: str = ""
) -> Asked:
    """Ask from `ADDRESS` and take everything back; return what the trail had of it."""
    thing = world.own if whose == "own" else world.other
    api = name.startswith("api:")
    options: dict[str, Any] = {"REMOTE_ADDR": ADDRESS, "HTTP_X_REQUEST_ID": "asked-by-test"}
    if api:
        body = BODIES.get(name, {}) | body_of(name, thing)
        body |= CHANGES.get(name, {}) if method == "PATCH" else {}
        sent: dict[str, Any] = {"data": json.dumps(body), "content_type": "application/json"}
    elif name in FORMS:
        sent = {"data": FORMS[name]}
    else:
        form = FORM
        if name == "jobs:new-batch":
            form += f"&verb=vm.delete&id={thing.ids['vm']}".encode()
        sent = {"data": form, "content_type": "application/x-www-form-urlencoded"}
    cookies = deepcopy(client.cookies)
    with transaction.atomic():
        if state:
            put(thing.ids, state)
        for earlier in FIRST.get(name, ()) if whose == "own" else ():
            prior = json.dumps(BODIES.get(earlier, {}))
            first = client.post(address(earlier, thing.ids), prior, "application/json")
            assert first.status_code in (200, 201, 202), first.content
        before = set(AuditEvent.objects.values_list("pk", flat=True))
        asking = client.post if method == "POST" else getattr(client, method.lower())
        response = asking(address(name, thing.ids), **sent, **options)
        events = list(AuditEvent.objects.exclude(pk__in=before).order_by("pk"))
        transaction.set_rollback(True)
    client.cookies = cookies  # a new session's key would name one that was taken back
    return Asked(response.status_code, events)


def session_of(world: World, who: str) -> Client:
    client = Client()
    client.force_login(world.people[who], "allauth.account.auth_backends.AuthenticationBackend")
    return client


def by_token(world: World, who: str) -> Client:
    _, text = create_token(Actor(user=world.people[who]), name="pipeline", scopes=["admin"])
    return Client(headers={"Authorization": f"Bearer {text}"})


def noun_of_vm(name: str) -> bool:
    return name.startswith(("api:vm-", "vms:"))


def flaws(event: AuditEvent, who: str, *, api: bool) -> list[str]:
    """Return what an event lacks that each must have."""
    found = []
    if event.actor_name != who:
        found.append(f"actor {event.actor_name!r}")
    if event.address != ADDRESS:
        found.append(f"address {event.address!r}")
    if not event.request_id:
        found.append("no request id")
    if api and event.token_name != "pipeline":
        found.append(f"token {event.token_name!r}")
    if not event.subject:
        found.append("no subject")
    return found


def test_what_is_done_is_told_with_actor_token_address_and_what_changed(world: World) -> None:
    token, session = by_token(world, "administrator"), session_of(world, "administrator")
    wrong, done = [], set()
    for name, method in WRITES:
        api = name.startswith("api:")
        client = token if api else session
        asked = ask(client, world, name, method, "own")
        for state in ("running", "stopped", "paused", "suspended"):
            if asked.status == 409 and noun_of_vm(name):
                asked = ask(client, world, name, method, "own", state=state)
        if not 200 <= asked.status < 400 or asked.status == 302:
            continue
        done.add(name)
        told = [event for event in asked.events if event.outcome == "done"]
        if bool(told) != (name not in SILENT):
            wrong.append(f"{name} {method}: {len(told)} events")
        for event in told:
            if event.actor_name == "orchestrator" and len(told) > 1:
                continue  # what follows from it by itself
            wrong += [f"{name} {event.action}: {one}" for one in flaws(event, "alice", api=api)]
            if not event.data and event.action not in TELLS_ALL:
                wrong.append(f"{name} {event.action}: tells nothing of what was done")
    assert wrong == [], "\n".join(wrong)
    undone = {name for name, _ in WRITES} - done
    assert sorted(one for one in undone if one.startswith("api:")) == sorted(NOT_DONE)
    assert len(done) > 100
    mine = by_token(world, "developer")
    asked = ask(mine, world, "api:access-request-withdraw", "POST", "own")
    assert [event.action for event in asked.events] == ["access.withdrawn"]
    assert flaws(asked.events[0], "bob", api=True) == []


def test_what_is_refused_is_told_too(world: World) -> None:
    """Also 404 for what one may not see: a write that names it is an attempt."""
    wrong, refused = [], 0
    for who, account in (("developer", "bob"), ("auditor", "audrey"), ("nobody", "charlie")):
        token, session = by_token(world, who), session_of(world, who)
        for name, method in WRITES:
            api = name.startswith("api:")
            asked = ask(token if api else session, world, name, method, "other")
            if asked.status not in (403, 404) or name in FOR_STRANGERS:
                continue
            refused += 1
            told = [event for event in asked.events if event.outcome == "refused"]
            if len(told) != 1:
                wrong.append(f"{who} {name} {method} {asked.status}: {len(told)} events")
            for event in told:
                found = flaws(event, account, api=api)
                if not event.data.get("code") or not event.data.get("reason"):
                    found.append("no reason")
                wrong += [f"{who} {name} {event.action}: {one}" for one in found]
    assert wrong == [], "\n".join(wrong)
    assert refused > 250


def test_a_token_that_was_revoked_is_told_once_a_minute(world: World) -> None:
    bob = Actor(user=world.people["developer"])
    token, text = create_token(bob, name="leaked", scopes=["read"])
    revoke_token(bob, token)
    client = Client(headers={"Authorization": f"Bearer {text}"})
    for _ in range(3):
        assert client.get("/api/v2/vms/", REMOTE_ADDR=ADDRESS).status_code == 401
    event = AuditEvent.objects.get(action="token.refused")
    assert flaws(event, "bob", api=False) == []
    assert (event.token_id, event.outcome, event.data["code"]) == (token.pk, "refused", "revoked")
    assert client.get("/api/v2/vms/", REMOTE_ADDR="10.9.8.6").status_code == 401
    assert AuditEvent.objects.filter(action="token.refused").count() == 2
    wrong = Client(headers={"Authorization": f"Bearer {text[:-1]}"})  # nobody's: nothing is told
    assert wrong.get("/api/v2/vms/", REMOTE_ADDR="10.9.8.5").status_code == 401
    assert AuditEvent.objects.filter(action="token.refused").count() == 2


def test_changes_tell_before_and_after(world: World) -> None:
    """Of each kind of object that can be changed, one change and what the trail has of it."""
    client = by_token(world, "administrator")
    ids = world.own.ids
    changes: dict[str, tuple[str, dict[str, Any], str, Any, Any]] = {
        "template": (
            f"templates/{ids['template']}/",
            {"description": "For tests"},
            "template.changed",
            {"description": ""},
            {"description": "For tests"},
        ),
        "host": (
            f"hosts/{ids['host']}/",
            {"tags": ["fast"]},
            "host.changed",
            {"tags": []},
            {"tags": ["fast"]},
        ),
        "role": (
            f"roles/{ids['role']}/",
            {"weight": 4},
            "role.weight_set",
            {"weight": 1},
            {"weight": 4},
        ),
        "user": (
            f"users/{ids['user']}/",
            {"roles": ["Operator"]},
            "user.roles_changed",
            {"roles": ["Developer"]},
            {"roles": ["Operator"]},
        ),
        "active": (
            f"users/{ids['user']}/",
            {"active": False},
            "user.deactivated",
            {"active": True},
            {"active": False},
        ),
        "quota": (
            f"quotas/{ids['quota']}/",
            {"maximum_vms": 3},
            "quota.changed",
            {"maximum_vms": 9},
            {"maximum_vms": 3},
        ),
        "webhook": (
            f"webhooks/{ids['webhook']}/",
            {"kinds": ["vm"]},
            "webhook.changed",
            {"kinds": []},
            {"kinds": ["vm"]},
        ),
        "pool": (
            f"templates/{ids['template']}/warm-pool/",
            {"size": 2},
            "template.pool_set",
            {"size": 0},
            {"size": 2},
        ),
    }
    for what, (path, body, action, before, after) in changes.items():
        answer = client.patch(f"/api/v2/{path}", body, content_type="application/json")
        assert answer.status_code == 200, (what, answer.content)
        data = AuditEvent.objects.get(action=action).data
        assert before.items() <= data["before"].items(), (what, data)
        assert after.items() <= data["after"].items(), (what, data)
    verbs: dict[str, tuple[str, dict[str, Any], str]] = {
        "taint": (f"images/{ids['image']}/taint/", {"reason": "odd"}, "image.tainted"),
        "grant": (f"grants/{ids['grant']}/revoke/", {}, "grant.revoked"),
        "token": (f"tokens/{ids['token']}/revoke/", {}, "token.revoked"),
        "hold": (f"hosts/{ids['host']}/cordon/", {"reason": "test"}, "host.cordon"),
        "queue": ("queue/hold/", {"note": "test"}, "queue.hold"),
        "revoked image": (f"images/{ids['image']}/revoke/", {}, "image.revoked"),
        "revoked template": (f"templates/{ids['template']}/revoke/", {}, "template.revoked"),
    }
    for what, (path, body, action) in verbs.items():
        answer = client.post(f"/api/v2/{path}", body, content_type="application/json")
        assert answer.status_code in (200, 202), (what, answer.content)
        data = AuditEvent.objects.get(action=action).data
        assert data["before"] != data["after"], (what, data)


@pytest.mark.parametrize("name", SILENT)
def test_what_is_not_told_is_a_route_still(name: str) -> None:
    assert name in {route for route, _ in WRITES}
