"""Each kind of revocation reaches everything, in every web process; five times the promised time.

`make bench` measures the promises themselves, under load (tests/bench/revoking.py).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.product import until
from tests.support.team import Team, make_team, ok

if TYPE_CHECKING:
    from tests.support.product import Product
    from tests.support.simulation import Simulation

pytestmark = pytest.mark.e2e

REFUSED_SECONDS, CLOSED_SECONDS, DELETED_SECONDS = 5 * 1, 5 * 2, 5 * 5
KINDS = ("token", "grant", "membership", "template", "image", "user")


@dataclass
class Relying:
    """An account that relies on something of each kind, at the web process beside."""

    username: str
    token: str
    template: str
    path: str
    method: str
    body: dict[str, Any]
    client: httpx.Client
    vm: str = ""
    waits: str = ""
    held: list[httpx.Response] = field(default_factory=list)
    stream_ended: threading.Event = field(default_factory=threading.Event)
    stream_began: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> httpx.Response:
        return self.client.post("/vms/", json={"template": self.template})

    def follow(self) -> None:
        """Hold an event stream and a command, each in a thread of its own."""

        def stream() -> None:
            try:
                with self.client.stream(
                    "GET", "/events/", headers={"Accept": "text/event-stream"}
                ) as answer:
                    self.stream_began.set()
                    for _ in answer.iter_raw():
                        pass
            except httpx.HTTPError:
                return
            self.stream_ended.set()

        def hold() -> None:
            path, headers = f"/vms/{self.vm}/execute/", {"Prefer": "wait=60"}
            command = {"command": "sleep 300"}
            self.held.append(self.client.post(path, json=command, headers=headers))

        for work in (stream, hold):
            threading.Thread(target=work, daemon=True).start()


def rely(team: Team, product: Product, kind: str) -> Relying:
    """Make an account with a template and an image of its own, and the request that revokes."""
    admin, name = team.admin, f"{kind}-user"
    source = {"source": "catalog", "architecture": "arm64", "type": "pvm", "version": "1"}
    image = ok(admin.post("/images/", json={"catalog_id": f"image-{kind}", **source}))
    template = ok(
        admin.post(
            "/templates/",
            json={
                "name": f"template-{kind}",
                "images": [image["id"]],
                "cpus": 1,
                "memory_mib": 512,
                "disk_gib": 10,
                "default_lease_seconds": 600,
                "maximum_lease_seconds": 600,
                "lease_end": "delete",
            },
        )
    )
    role = ok(admin.post("/roles/", json={"name": f"{kind}-role", "permissions": []}))
    roles = ["Developer", f"{kind}-role"]
    user = ok(admin.post("/users/", json={"username": name, "roles": roles}))
    whose = {"role": role["id"]} if kind == "membership" else {"user": name}
    wanted = {"template": template["id"], "level": "use", **whose}
    grant = ok(admin.post("/grants/", json=wanted))
    scopes = {"user": name, "name": "ci", "scopes": ["vms"]}
    token = ok(admin.post("/tokens/", json=scopes))
    paths = {
        "token": f"/tokens/{token['id']}/revoke/",
        "grant": f"/grants/{grant['id']}/revoke/",
        "template": f"/templates/{template['id']}/revoke/",
        "image": f"/images/{image['id']}/revoke/",
        "membership": f"/users/{user['id']}/",
        "user": f"/users/{user['id']}/",
    }
    changes: dict[str, dict[str, Any]] = {
        "membership": {"roles": ["Developer"]},
        "user": {"active": False},
    }
    beside = f"http://127.0.0.1:{product.port_of('web-2')}/api/v2"
    headers = {"Authorization": f"Bearer {token['token']}"}
    return Relying(
        username=name,
        token=token["token"],
        template=template["id"],
        path=paths[kind],
        method="PATCH" if kind in changes else "POST",
        body={"running_vms": "delete", **changes.get(kind, {})},
        client=httpx.Client(base_url=beside, headers=headers, timeout=70),
    )


def test_each_kind_reaches_everything_in_every_web_process(
    product: Product, simulation: Simulation
) -> None:
    product.start("web-2")
    team = make_team(product, simulation)
    relying = {kind: rely(team, product, kind) for kind in KINDS}
    until(lambda: _answers(product.port_of("web-2")), 60, "the second web process answers")
    for one in relying.values():
        one.vm = ok(one.ask())["id"]
    for one in relying.values():
        team.until_state(one.vm, "running")
    for host in ok(team.admin.get("/hosts/"))["results"]:
        ok(team.admin.post(f"/hosts/{host['id']}/cordon/", json={"reason": "the rest waits"}))
    for one in relying.values():
        one.waits = ok(one.ask())["id"]
    for kind, one in relying.items():
        one.follow()
        assert one.stream_began.wait(20)
        until(lambda one=one: _executes(team, one.vm), 20, "the command runs")  # type: ignore[misc]
        assert one.held == [], kind
        began = time.monotonic()
        ok(team.admin.request(one.method, one.path, json=one.body))
        until(lambda one=one: one.ask().status_code in (401, 403, 404), REFUSED_SECONDS, kind)  # type: ignore[misc]
        assert team.vm(one.waits)["state"] == "cancelled", kind
        until(lambda one=one: one.held, CLOSED_SECONDS, f"{kind}: the held command")  # type: ignore[misc]
        if kind in ("token", "user"):
            assert one.stream_ended.wait(CLOSED_SECONDS), kind
            assert one.held[0].status_code == 401, kind
        team.until_state(one.vm, "deleted", seconds=DELETED_SECONDS)
        assert time.monotonic() - began < DELETED_SECONDS
    assert simulation.all_vm_names() == []


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _executes(team: Team, vm_id: str) -> bool:
    jobs = ok(team.admin.get("/jobs/", params={"subject": f"vm:{vm_id}"}))["results"]
    return any(job["kind"] == "vm.execute" and job["state"] == "running" for job in jobs)
