"""`schemathesis run` over all operations: no 5xx, and no answer that the schema does not know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.product import ROOT, Product, fresh_database, until
from tests.support.simulation import simulated_hosts
from tests.support.team import Team, make_team, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e
# Of each operation. Most of what somebody with few rights asks is refused alike.
EXAMPLES = {"admin": 18, "bob": 4}
SEED = 20260131
OPERATIONS = 231
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# Nothing is learnt from former runs, answers or our code: the seed alone decides.
SETTINGS = """
[cache]
enabled = false
[analysis.constants]
enabled = false
[phases.fuzzing]
extra-data-sources.responses = false
error-feedback.enabled = false
"""
NOUNS = (
    *("hosts", "sources", "images", "templates", "grants", "vms", "residues", "jobs"),
    "tasks",
    *("users", "service-accounts", "roles", "tokens", "webhooks", "quotas", "access-requests"),
    *("invitations", "enrolment-tokens"),
    *("applications", "packages", "environments", "dictionaries"),
)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Product]:
    """The web process alone, without a broker, on a SQLite file."""
    with fresh_database(tmp_path) as url:
        product = Product(tmp_path, url, "redis://127.0.0.1:1/0")
        product.manage("bootstrap")
        try:
            product.start("web")
            until(lambda: _is_alive(product), 60, f"it answers; logs are in {tmp_path}")
            yield product
        finally:
            product.stop()


def _is_alive(product: Product) -> bool:
    try:
        return httpx.get(f"{product.url}/healthz", timeout=5).is_success
    except httpx.HTTPError:
        return False


# How many VMs each verb may use up. Work on a VM never ends here, so each is good for once.
OF_STOPPED = ("start", "resize", "clone", "clone-to-template")
OF_SNAPSHOTS = ("snapshots.snapshot", "snapshots.delete.snapshot", "snapshots.revert.snapshot")
VMS = {
    **dict.fromkeys(("start", "stop", "suspend", "execute"), 2),
    **dict.fromkeys(("resume", "pause", "restart", "reset", "rename", "upload", "configure"), 1),
    **dict.fromkeys(("resize", "clone", "clone-to-template", "let-go"), 1),
    **dict.fromkeys(("snapshots", "snapshots.delete", "snapshots.refresh"), 1),
    **dict.fromkeys(OF_SNAPSHOTS, 1),
}


# Jobs never run here, so what a VM has left stays, and may be asked to be removed again.
LEAVES = """
from django.utils import timezone
from vms.models import Receipt, Residue
for number, receipt in enumerate(Receipt.objects.order_by("pk")[:2]):
    Residue.objects.create(receipt=receipt, kind="bundle", reference=f"/{number}.pvm",
        detail="A folder is still there.", ours=True, seen_at=timezone.now())
"""
# Browsers that are signed in, as the console's own page makes them.
SIGNED_IN = """
from allauth.usersessions.models import UserSession
from django.test import Client
from accounts.models import User
dora = User.objects.get(username="dora")
for _ in range(3):
    browser = Client()
    browser.force_login(dora, "allauth.account.auth_backends.AuthenticationBackend")
    UserSession.objects.create(user=dora, ip="127.0.0.1", user_agent="a browser",
        session_key=browser.session.session_key)
from allauth.mfa.totp.internal.auth import TOTP
TOTP.activate(User.objects.get(username="eve"), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
"""
# Tasks in the states that their verbs need; no worker moves them.
TASKS = """
import json
from accounts.actors import Actor
from accounts.models import User
from deployments import environments, packages, specs
from deployments.models import Step, Task
from deployments.running import control
from vms.models import VirtualMachine
admin = Actor(user=User.objects.get(username="admin"))
vm = VirtualMachine.objects.filter(state="running").first()
environment = environments.create_environment(admin, name="tested", members=[{"vm": vm}])
package = packages.create_package(admin, {"application": "Tested", "version": "1.0",
    "deployables": [{"name": "a", "type": "script", "tags": ["*"],
        "properties": {"script": "true"}}],
    "policy": {"approvals": [{"name": "Go", "at": "start"}]}})
prepared = specs.prepare(actor=admin, environment=environment, package=package)
made = {"environment": [str(environment.pk)], "package": [str(package.pk)]}
verbs = ["start", "continue", "schedule", "stop", "abort", "cancel", "archive", "rollback",
    "rollback.preview", "skip", "unskip", "pause", "approve", "take-over", "assign",
    "blocks.path", "steps.path",
    "steps.log.path", ""]
for verb in verbs:
    task = control.create(admin, prepared)
    path = {"blocks.path": "0_1_1", "steps.path": "0_1_1_1_1", "steps.log.path": "0_1_1_1_1"}
    made[verb] = [f"{task.pk}/{path[verb]}" if verb in path else str(task.pk)]
    state = {"stop": "queued", "abort": "executing", "cancel": "failed", "archive": "executed",
        "rollback": "executed", "rollback.preview": "executed",
        "approve": "stopped"}.get(verb, "pending")
    Task.objects.filter(pk=task.pk).update(state=state, started_by=admin.user,
        runs=int(verb.startswith("rollback")))
    if verb in ("take-over", "assign"):
        Task.objects.filter(pk=task.pk).update(owner=None)
    marked = {"unskip": "skip", "approve": "paused", "abort": "executing"}.get(verb, "pending")
    Step.objects.filter(task=task, kind="approval").update(state=marked)
print(json.dumps(made))
"""
ENDS = "from events.models import Delivery; Delivery.objects.filter"


def _furnish(team: Team, stranger: str, idle_host: str) -> dict[str, list[str]]:
    """Make some of everything, with VMs that run; return what operations may use up."""
    admin = team.admin

    def make(path: str, **body: Any) -> str:
        return ok(admin.post(f"/{path}/", json=body))["id"]

    source = {"source": "catalog", "architecture": "arm64", "type": "pvm"}
    image = make("images", catalog_id="debian", version="12", **source)
    tainted = make("images", catalog_id="fedora", version="43", **source)
    removed, revoked = (
        make("images", catalog_id=name, version="1", **source) for name in ("suse", "arch")
    )
    ok(admin.post(f"/images/{revoked}/revoke/", json={"reason": "a test"}))
    packs, stored = _store(team)
    peer = make("sources", name="peer", connection=f"host=root@localhost:simulated@{idle_host}")
    empty_source = make("sources", name="empty", connection="host=http://127.0.0.1:1")
    lease = {"default_lease_seconds": 60, "maximum_lease_seconds": 3600, "lease_end": "delete"}
    size = {"cpus": 1, "memory_mib": 512, "disk_gib": 10}
    template = make("templates", name="old-ci", images=[image], **size, **lease)
    grants = [
        make("grants", level="use", template="old-ci", user="bob"),
        make("grants", level="manage", template="ubuntu-ci", role="Operator"),
    ]
    make("service-accounts", username="ci", roles=["Developer"])
    robot = make("service-accounts", username="old-robot", roles=[])
    carol = make("users", username="carol", roles=["Developer"])
    dora, eve = (make("users", username=n, roles=["Developer"]) for n in ("dora", "eve"))
    team.product.manage("shell", "-c", SIGNED_IN)
    sessions = [one["id"] for one in ok(admin.get(f"/users/{dora}/sessions/"))["results"]]
    invited = [make("invitations", username=f"guest-{n}", roles=[]) for n in range(3)]
    quotas = [make("quotas", role=role, maximum_vms=1000) for role in ("Developer", "Operator")]
    tokens = [make("tokens", user=user, name="x", scopes=["read"]) for user in ("admin", "bob")]
    rotated, changed = (
        make("tokens", user="admin", name=name, scopes=["read"]) for name in ("rotated", "changed")
    )
    vms = {
        verb: [
            team.ask(start=verb not in OF_STOPPED, cpus=1, memory_mib=1024)["id"]
            for _ in range(count)
        ]
        for verb, count in VMS.items()
    }
    _settle(team)
    for verb, ids in vms.items():
        expected = "stopped" if verb in OF_STOPPED else "running"
        assert {team.vm(vm_id)["state"] for vm_id in ids} == {expected}
    for vm_id in vms["resume"]:
        ok(team.bob.post(f"/vms/{vm_id}/suspend/"))
    for verb in OF_SNAPSHOTS:
        for vm_id in vms[verb]:
            ok(team.bob.post(f"/vms/{vm_id}/snapshots/", json={"name": "clean"}))
    roles = [
        make("roles", name=name, permissions=["hosts.view"]) for name in ("readers", "visitors")
    ]
    asked = {"reason": "a test"}
    answered = [
        ok(team.bob.post("/access-requests/", json={"template": name, **asked}))["id"]
        for name in ("old-ci", "dreamt-of")
    ]
    own = make("access-requests", template="dreamt-of", **asked)
    make("access-requests", template="another", **asked)
    # Refused for its one item, so that there is something to retry.
    stopped = {"verb": "vm.stop", "ids": vms["start"]}
    batch = ok(team.bob.post("/batches/", json=stopped))["id"]
    _settle(team)
    for verb in OF_SNAPSHOTS:
        rows = {vm_id: ok(admin.get(f"/vms/{vm_id}/snapshots/"))["results"] for vm_id in vms[verb]}
        vms[verb] = [f"{vm_id}/{row['id']}" for vm_id, (row,) in rows.items()]
    team.product.manage("shell", "-c", LEAVES)
    # Nobody places them. Bob's own could be cancelled by changes to his rights.
    waiting = [team.ask(client) for client in (admin, admin, team.bob, team.bob)]
    hosts = [host["id"] for host in ok(admin.get("/hosts/"))["results"]]
    login = {"username": "root@localhost", "password": "simulated"}
    empty = make("hosts", name="empty", url=stranger, **login)
    for verb in ("cordon", "disable"):
        ok(admin.post(f"/hosts/{hosts[0]}/{verb}/", json={"reason": "a test"}))
    chat = {"url": "http://10.0.0.1/hook", "kinds": ["vm"]}
    enrolment_tokens = [make("enrolment-tokens", host_name=f"mac-{number}") for number in range(3)]
    webhooks = [make("webhooks", name=f"chat-{number}", **chat) for number in range(3)]
    pinged = ok(admin.post(f"/webhooks/{webhooks[0]}/test/"))["id"]
    team.product.manage("shell", "-c", f"{ENDS}(pk='{pinged}').update(state='failed')")
    # Drains and windows are for a host of their own: the others are to take VMs.
    foreign = [{"id": f"{{f-{number}}}", "name": f"foreign-{number}"} for number in range(30)]
    control = idle_host.replace("/h/", "/control/h/")
    httpx.patch(control, json={"vms": [{"cpus": 1, "disk": 1, **one} for one in foreign]})
    idle = make("hosts", name="idle", url=idle_host, **login)
    ok(admin.post(f"/hosts/{idle}/drain/", json={"reason": "a test"}))
    # Another host than the one whose copies are deleted: no worker ends what is collected there.
    ok(admin.post(f"/hosts/{hosts[1]}/cache/quota/", json={"quota_mib": 100_000}))
    window = {"reason": "a test", "until": "2099-01-01T00:00:00Z"}
    ok(admin.post(f"/hosts/{idle}/maintain/", json=window))
    (hold,) = [
        one["id"]
        for one in ok(admin.get(f"/hosts/{idle}/holds/"))["results"]
        if one["kind"] == "maintenance"
    ]
    packages = [make("packages", application=name, version="1") for name in ("Shop", "Gone", "Old")]
    applications = {row["name"]: row["id"] for row in ok(admin.get("/applications/"))["results"]}
    ok(admin.delete(f"/packages/{packages[1]}/"))
    places = [make("environments", name=name) for name in ("Staging", "Former", "Test", "Live")]
    ok(admin.post(f"/environments/{places[3]}/restrict/"))
    lines = [
        make(f"environments/{places[0]}/access", user=name, level="control")
        for name in ("carol", "dora")
    ]
    values = [make("dictionaries", name=name) for name in ("Common", "Unused")]
    tasks = json.loads(team.product.manage("shell", "-v", "0", "-c", TASKS).splitlines()[-1])
    return {
        "applications.delete": [applications["Gone"]],
        "packages.delete": packages[2:],
        "environments.delete": places[1:2],
        "environments.restrict": places[2:3],
        "environments.open": places[3:],
        "environments.access.line": [f"{places[0]}/{lines[0]}"],
        "environments.access.impact.line": [f"{places[0]}/{lines[0]}"],
        "environments.access.delete.line": [f"{places[0]}/{lines[1]}"],
        "dictionaries.delete": values[1:],
        **{f"tasks.{verb}": ids for verb, ids in tasks.items() if verb},
        "webhooks.delete": webhooks[2:],
        "enrolment-tokens.revoke": enrolment_tokens,
        "quotas.delete": quotas[1:],
        "roles.delete": roles[1:],
        "roles.update": roles[:1],
        "access-requests.approve": answered[:1],
        "access-requests.decline": answered[1:],
        "access-requests.withdraw": [own],
        "webhooks.deliveries.redeliver.delivery": [f"{webhooks[0]}/{pinged}"],
        **{f"hosts.{verb}": [idle] for verb in ("drain", "undrain", "maintain", "holds")},
        **{f"hosts.{verb}": [idle] for verb in ("adopt", "unregister", "cache.delete")},
        "foreign": [one["id"] for one in foreign],
        "hosts.cache.pull": hosts,
        "hosts.holds.end.hold": [f"{idle}/{hold}"],
        "hosts.delete": [empty],
        "hosts.enable": hosts[:1],
        "hosts.uncordon": hosts[:1],
        "images.revoke": [image],
        "images.unrevoke": [image, revoked],
        "images.remove": [removed],
        "images.verify": [stored],
        **{f"images.{verb}": [tainted] for verb in ("taint", "untaint", "update")},
        "sources.delete": [empty_source],
        **{f"sources.{verb}": [packs] for verb in ("import", "push", "update")},
        "sources.browse": [peer],
        "hosts.cache.quota": hosts,
        "hosts.cache.collect": hosts[1:2],
        "templates.revoke": [template],
        "grants.revoke": grants,
        "tokens.revoke": tokens,
        "tokens.rotate": [rotated],
        "tokens.update": [changed],
        "tokens.end-overlap": [rotated],
        "users.leaked-tokens": [carol],  # nobody asks as her
        "service-accounts.delete": [robot],
        "users.sessions": [dora],
        "users.remove-factors": [eve],
        "users.sessions.end.session": [f"{dora}/{session}" for session in sessions],
        "invitations.resend": invited[:1],
        "invitations.revoke": invited[1:2],
        "users.update": [carol],  # who loses nothing that others need
        "jobs.retry": [batch],
        "jobs.cancel": [vm["job"] for vm in waiting[::2]],
        "vms.delete": [vm["id"] for vm in waiting[1::2]],
        **{f"vms.{verb}": ids for verb, ids in vms.items()},
        **dict.fromkeys(("vms.extend", "vms.heartbeat", "vms.hold", "vms.release"), vms["execute"]),
    }


def _store(team: Team) -> tuple[str, str]:
    """Import an image from a storage; return the source and the image."""
    folder = team.product.folder / "catalogs/packs"
    (folder / "alpine").mkdir(parents=True)
    (folder / "alpine/alpine.pdpack").write_bytes(b"a pack")
    meta = {"catalog_id": "ALPINE", "version": "3", "architecture": "arm64", "type": "pvm"}
    meta["pack_path"] = "alpine.pdpack"
    (folder / "alpine/alpine.meta").write_text(json.dumps(meta))
    connection = f"provider=local-storage;catalog_path={folder}"
    body = {"name": "packs", "connection": connection}
    source = ok(team.admin.post("/sources/", json=body))["id"]
    ok(team.admin.post(f"/sources/{source}/import/", json={}))
    _settle(team)
    (image,) = ok(team.admin.get("/images/", params={"source": source}))["results"]
    return source, image["id"]


def _settle(team: Team) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.settling"],
        cwd=ROOT,
        env=team.product.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _known(team: Team, strangers: list[str]) -> dict[str, Any]:
    """Return what the hooks aim at: all objects, without those that are to be used up."""
    used_up = _furnish(team, strangers.pop(), strangers.pop())
    spare = {one for ids in used_up.values() for one in ids}
    ids = {}
    for noun in NOUNS:
        every = [row["id"] for row in ok(team.admin.get(f"/{noun}/"))["results"]]
        ids[noun] = [one for one in every if one not in spare] or every
        assert every, noun
    return {"ids": ids | used_up, "hosts": strangers}


@pytest.mark.parametrize("username", EXAMPLES)
def test_no_answer_is_outside_the_schema(username: str, web: Product, tmp_path: Path) -> None:
    with simulated_hosts(3) as pool, simulated_hosts(20) as others:
        team = make_team(web, pool)
        strangers = [others.host_url(number) for number in range(1, 21)]
        (tmp_path / "known.json").write_text(json.dumps(_known(team, strangers)))
        token = web.token(username)
        report = _run(web, token, EXAMPLES[username], tmp_path)
    answers = _answers(tmp_path)
    assert len(answers) == OPERATIONS, report
    assert {name for name, codes in answers.items() if len(codes) < EXAMPLES[username]} == set()
    if username == "admin":
        # Else the run would have shown little: refusals look the same everywhere.
        unreached = [name for name, codes in answers.items() if not any(c < 300 for c in codes)]
        assert not unreached, unreached
    # The run did not take its own token, role or account away.
    assert ok(web.api(token).get("/me/"))["roles"], report


def _answers(folder: Path) -> dict[str, list[int]]:
    """Return the statuses that came, by operation."""
    found: dict[str, list[int]] = {}
    for line in (folder / "answers.txt").read_text().splitlines():
        name, _, status = line.partition("\t")
        found.setdefault(name, []).append(int(status))
    return found


def _run(web: Product, token: str, examples: int, folder: Path) -> str:
    """Run schemathesis; return what it reported."""
    (folder / "schemathesis.toml").write_text(SETTINGS)
    document = httpx.get(
        f"{web.url}/api/v2/openapi.json", headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
    (folder / "openapi.json").write_bytes(document.content)
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), "--config-file"),
            *("schemathesis.toml", "run", "openapi.json", "--url", web.url),
            *("--header", f"Authorization: Bearer {token}"),
            *("--checks", ",".join(CHECKS), "--phases", "fuzzing"),
            *("--max-examples", str(examples), "--seed", str(SEED), "--workers", "1"),
            *("--generation-database", "none", "--suppress-health-check", "all"),
            *("--continue-on-failure", "--no-shrink", "--request-timeout", "30"),
            *("--warnings", "off", "--no-color"),
        ],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
            "SCHEMATHESIS_KNOWN": str(folder / "known.json"),
            "SCHEMATHESIS_ANSWERS": str(folder / "answers.txt"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    assert f"Selected: {OPERATIONS}/{OPERATIONS}" in report, report
    return report
