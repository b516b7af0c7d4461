"""What steps do on VMs: on simulated hosts over HTTP, by the verbs that everybody uses."""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from accounts.models import AuditEvent
from deployments import artifacts, dictionaries
from deployments.models import Environment, Step, StepLog, Task
from deployments.planning import Step as Planned
from deployments.running import control
from jobs.models import Job
from orchestrator.refusals import Forbidden
from tests.deployments.running.conftest import L, prepared
from tests.vms.conftest import pool, reread, worker
from vms import grants, verbs
from vms.models import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from accounts.actors import Actor
    from tests.vms.conftest import Pool, Worker

__all__ = ["pool", "worker"]

RUNS = ["deployments.view", "deployments.run", "hosts.view"]


@pytest.fixture
def runner(pool: Pool) -> Actor:
    """Bob, who may run deployments besides."""
    from accounts.models import Role

    role = Role.objects.of(pool.bob.user_id).get()
    role.permissions = [*role.permissions, *RUNS]
    role.save()
    return pool.bob


@pytest.fixture
def environment(db: None, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setattr("deployments.deployed.record", lambda *arguments: None)
    monkeypatch.setattr(dictionaries, "revealed", lambda value: (value, frozenset()))
    return Environment.objects.create(name="staging")


def do(kind: str, container: dict[str, Any], **action: Any) -> Planned:
    return Planned(
        50, f"{kind} {len(action)}", action={"kind": kind, "container": container} | action
    )


def run(
    worker: Worker, actor: Actor, environment: Environment, *steps: Planned, until: str = "executed"
) -> Task:
    task = control.create(actor, prepared(environment, L("leaf", *steps)))
    control.start(actor, task)
    worker.until(lambda: Task.objects.get(pk=task.pk).state in (until, "failed", "stopped"), 20)
    found = Task.objects.get(pk=task.pk)
    assert found.state == until, (found.reason, list(StepLog.objects.values_list("text")))
    return found


def log_of(task: Task, kind: str) -> str:
    return "\n".join(
        StepLog.objects.filter(step__task=task, step__kind=kind).values_list("text", flat=True)
    )


def test_a_vm_is_made_started_changed_and_deleted_by_steps(
    pool: Pool, worker: Worker, runner: Actor, environment: Environment
) -> None:
    assert pool.template is not None
    host, template = {"host": str(pool.hosts[1].pk)}, str(pool.template.pk)
    web = ["web", "host:1"]
    made = {"created": ["web", "host:1"]}
    task = run(
        worker,
        runner,
        environment,
        do("vm.create", host, template=template, name="web-1", deployed=web),
        do("vm.wait", made, **{"for": "exists"}),
        do("vm.reconfigure", made, cpus=4, memory_mib=None),
        do("vm.start", made),
        do("vm.wait", made, **{"for": "agent", "deadline_seconds": 60}),
        do("vm.start", made),
        do("vm.snapshot", made, do="take", name="before"),
        do("vm.snapshot", made, do="drop", name="before"),
        do("check", made, probe="agent"),
        do("vm.suspend", made),
        do("vm.start", made),
        do("vm.stop", made, grace_seconds=1, force=True),
    )
    vm = VirtualMachine.objects.get(name="web-1")
    assert (vm.state, vm.host_id, vm.cpus, vm.requested_by_id) == (
        *("stopped", pool.hosts[1].pk, 4),
        runner.user_id,
    )
    assert Step.objects.get(task=task, kind="vm.create").result == {"vm": str(vm.pk)}
    assert "web-1 runs already." in log_of(task, "vm.start")
    assert AuditEvent.objects.filter(action="vm.start_requested", actor_name="bob").exists()
    gone = run(worker, runner, environment, do("vm.delete", {"vm": str(vm.pk)}))
    assert reread(vm).state == "deleted"
    assert gone.state == "executed"
    run(worker, runner, environment, do("vm.delete", {"vm": str(vm.pk)}))  # gone already


@pytest.fixture
def vm(pool: Pool, worker: Worker, runner: Actor) -> VirtualMachine:
    made = pool.ask(name="build-1")
    worker.finish(made.create_job)  # type: ignore[arg-type]
    return reread(made)


def in_guest(worker: Worker, pool: Pool, vm: VirtualMachine, command: str) -> str:
    job = worker.finish(verbs.execute(pool.bob, vm, command=command))
    return str(job.result["stdout"])


def test_scripts_files_services_and_configuration_in_a_guest(
    pool: Pool,
    worker: Worker,
    runner: Actor,
    environment: Environment,
    vm: VirtualMachine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    settings: Any,
) -> None:
    def revealed(value: Any) -> tuple[Any, frozenset[str]]:
        text = json.dumps(value).replace("{{secret:1/pw}}", "hunter2")
        return json.loads(text), frozenset({"hunter2"})

    monkeypatch.setattr(dictionaries, "revealed", revealed)
    # Longer than one command holds.
    content = b"name {{name}}\n" + bytes(range(256)) * 300
    wanted = content.replace(b"{{name}}", b"shop")
    sha256 = hashlib.sha256(content).hexdigest()
    settings.ARTIFACT_DIR = tmp_path
    artifacts.store(BytesIO(content))
    at = {"vm": str(vm.pk)}
    task = run(
        worker,
        runner,
        environment,
        do(
            "vm.execute",
            at,
            script="# say it\necho one {{secret:1/pw}}\necho two >&2\nwhoami",
            user="ci",
            sudo=True,
        ),
        do(
            "vm.upload",
            at,
            sha256=sha256,
            path="/srv/a b/app.bin",
            mode="0644",
            placeholders={"name": "shop"},
        ),
        do(
            "config.write",
            at,
            path="/etc/shop.env",
            format="env",
            values={"PASSWORD": "{{secret:1/pw}}", "DEBUG": False, "NAME": "a b"},
        ),
        do("vm.service", at, do="start", name="shop"),
    )
    assert log_of(task, "vm.execute").splitlines()[1:] == ["one •••", "root", "two", "Exit code 0."]
    upload = Step.objects.get(task=task, kind="vm.upload")
    assert upload.reason == (
        f"/srv/a b/app.bin: {len(wanted)} bytes, SHA-256 {hashlib.sha256(wanted).hexdigest()}."
    )
    sent = Job.objects.get(kind="vm.write", payload__reference__step=str(upload.pk))
    assert sent.payload["at"] == len(wanted) + 1  # all of it, and its checksum looked at
    # The secret is in no row: neither of the step's own job, nor of what it asked for.
    rows = [
        *Job.objects.values("payload", "result", "message"),
        *Step.objects.values("action", "result", "reason"),
        *StepLog.objects.values("text"),
        *AuditEvent.objects.values("data"),
    ]
    encoded = base64.b64encode(b"hunter2").decode().rstrip("=")
    assert not any("hunter2" in str(row) or encoded in str(row) for row in rows)
    assert in_guest(worker, pool, vm, "cat /etc/shop.env") == (
        "DEBUG=false\nNAME='a b'\nPASSWORD=hunter2\n"
    )
    assert in_guest(worker, pool, vm, "systemctl is-active shop") == "active\n"
    run(
        worker,
        runner,
        environment,
        do("vm.remove_file", at, path="/srv/a b/app.bin"),
        do("config.remove", at, path="/etc/shop.env"),
        do("vm.service", at, do="stop", name="shop"),
    )
    assert (
        in_guest(worker, pool, vm, "cat /etc/shop.env || systemctl is-active shop") == "inactive\n"
    )


def test_a_script_that_fails_says_how_and_its_undo_is_the_authors(
    pool: Pool, worker: Worker, runner: Actor, environment: Environment, vm: VirtualMachine
) -> None:
    step = do("vm.execute", {"vm": str(vm.pk)}, script="echo no room >&2 ; exit 3")
    task = run(worker, runner, environment, step, until="failed")
    found = Step.objects.get(task=task, kind="vm.execute")
    assert (found.reason, found.result) == ("Exit code 3: no room", {"exit_code": 3})
    verbs.stop(runner, vm)
    stopped = do("vm.execute", {"vm": str(vm.pk)}, script="true")
    refused = run(worker, runner, environment, stopped, until="failed")
    assert "execute needs it to be running" in refused.reason


def test_whoever_starts_or_continues_needs_the_rights_then(
    pool: Pool, worker: Worker, runner: Actor, environment: Environment, vm: VirtualMachine
) -> None:
    assert pool.grant is not None
    assert pool.template is not None
    host = {"host": str(pool.hosts[0].pk)}
    create = do(
        "vm.create", host, template=str(pool.template.pk), name="web-1", deployed=["web", "host:1"]
    )
    pause = Planned(1, "Look", action={"kind": "manual", "instruction": "Look."})
    task = run(worker, runner, environment, pause, create, until="stopped")
    grants.revoke_grant(pool.alice, pool.grant)
    with pytest.raises(Forbidden, match="no grant for the template ubuntu-ci"):
        control.start(runner, task)
    theirs = do("vm.stop", {"vm": str(vm.pk)})
    other = control.create(pool.alice, prepared(environment, L("leaf", theirs)))
    vm.requested_by = pool.alice.user
    vm.save()
    with pytest.raises(Forbidden, match="You may not act on build-1"):
        control.start(runner, other)


@pytest.fixture
def web() -> Iterator[HTTPServer]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/up" else 503)
            self.end_headers()
            self.wfile.write(b"all is well")

        def log_message(self, *words: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_checks_wait_until_it_is_healthy_or_the_deadline_has_passed(
    pool: Pool,
    worker: Worker,
    runner: Actor,
    environment: Environment,
    vm: VirtualMachine,
    web: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deployments.running.actions.checks.PAUSE_SECONDS", 0.05)
    VirtualMachine.objects.filter(pk=vm.pk).update(ip_address="127.0.0.1")
    at, port = {"vm": str(vm.pk)}, web.server_port
    run(
        worker,
        runner,
        environment,
        do("check", at, probe="port", port=port, minimum_healthy_seconds=0.1),
        do("check", at, probe="http", port=port, path="/up", expect="well"),
        do("check", at, probe="script", script="echo fine", expect="fine"),
        do("check", at, probe="agent"),
    )
    soon = do("check", at, probe="port", port=port, minimum_healthy_seconds=60, deadline_seconds=0)
    assert "s only" in run(worker, runner, environment, soon, until="failed").reason
    down = do("check", at, probe="http", port=port, path="/down", deadline_seconds=0.2)
    task = run(worker, runner, environment, down, until="failed")
    url = f"http://127.0.0.1:{port}/down"
    assert task.reason.endswith(f"Not healthy within 0.2 s: {url} answers 503, not 200.")
    assert f"Not healthy yet: {url} answers 503, not 200." in log_of(task, "check")
    ill = do("check", at, probe="script", script="exit 4", deadline_seconds=0.2)
    assert "exit code 4" in run(worker, runner, environment, ill, until="failed").reason
    VirtualMachine.objects.filter(pk=vm.pk).update(ip_address="169.254.169.254")
    cloud = do("check", at, probe="http", port=80, deadline_seconds=0.1)
    assert (
        "no connection may go to" in run(worker, runner, environment, cloud, until="failed").reason
    )
