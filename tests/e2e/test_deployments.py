"""A composite goes to six simulated VMs by clicking: previewed, paused, failed, retried, undone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.test_browser import Person, chromium, someone
from tests.support.simulation import simulated_hosts
from tests.support.team import make_team, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.support.product import Product
    from tests.support.simulation import Simulation
    from tests.support.team import Team

__all__ = ["chromium", "someone"]
pytestmark = [pytest.mark.e2e, pytest.mark.browser]

VMS = [f"shop-{number}" for number in range(1, 7)]
RUN_MS = 90_000  # a whole plan on a busy machine


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with simulated_hosts(2, "--boot-seconds", "0.2", "--clone-seconds", "0.2") as running:
        yield running


def script(name: str, do: str, undo: str) -> dict[str, Any]:
    return {"name": name, "type": "script", "properties": {"script": do, "undo": undo}}


def furnish(team: Team) -> None:
    """Make six running VMs, an environment of them, and a composite of two members."""
    size = {"cpus": 1, "memory_mib": 512, "disk_gib": 10}
    vms = [team.ask(team.admin, name=name, **size)["id"] for name in VMS]
    for vm_id in vms:
        team.until_state(vm_id, "running")
    members = [{"vm": vm_id} for vm_id in vms]
    ok(team.admin.post("/environments/", json={"name": "Staging", "members": members}))
    base = script("base", "printf base > /base", "rm /base")
    # It works only where somebody has prepared the guest.
    shop = script("shop", "test -f /ready-{{container.name}}", "echo gone")
    for name, one in (("Base", base), ("Shop", shop)):
        document = {"application": name, "version": "1.0", "deployables": [one]}
        ok(team.admin.post("/packages/", json=document))
    parts = [{"application": name, "version": "1.0"} for name in ("Base", "Shop")]
    suite = {"application": "Suite", "version": "1.0", "packages": parts}
    ok(team.admin.post("/packages/", json=suite))
    for name, vm_id in zip(VMS, vms, strict=True):
        if name != "shop-3":
            prepare(team, name, vm_id)


def prepare(team: Team, name: str, vm_id: str) -> None:
    command = {"command": f"printf yes > /ready-{name}"}
    wait = {"Prefer": "wait=30"}
    job = ok(team.admin.post(f"/vms/{vm_id}/execute/", json=command, headers=wait))
    assert job["state"] == "done", job


def state(person: Person) -> Locator:
    return person.page.locator("#task .card-header .state").first


def steps(team: Team, task: str) -> dict[str, tuple[str, str]]:
    """Return path and state of the steps of a task's plan, by their text."""
    rows = ok(team.admin.get(f"/tasks/{task}/steps/", params={"page_size": 200}))["results"]
    return {row["text"]: (row["path"], row["state"]) for row in rows if row["kind"] != "register"}


def test_a_composite_is_previewed_paused_failed_retried_and_rolled_back(
    product: Product, simulation: Simulation, someone: Any
) -> None:
    team = make_team(product, simulation)
    furnish(team)
    admin = someone("admin", (product.folder / "admin-password").read_text().strip())
    page = admin.page

    admin.go("Environments")
    page.get_by_role("link", name="Staging").click()
    admin.is_on("Staging")
    admin.press("Deploy", page.locator(".page-actions"))
    admin.fill({"Package": "Suite 1.0"})
    expect(page.locator("#preview-title")).to_have_text("Deploy Suite 1.0 on Staging")
    admin.fill({"Orchestrator 1": "sequential-by-composite-package"})
    admin.fill({"Orchestrator 2": "parallel-by-container"})
    page.get_by_label("Orchestrator 2", exact=True).blur()
    blocks = page.locator(".plan-root .block-parallel")
    expect(blocks).to_have_count(2)
    expect(blocks.first.locator(".block-interleaved")).to_have_count(6)
    expect(blocks.first).to_contain_text("by sequential-by-composite-package: Base 1.0")
    # A change shows its step, and the step its change.
    page.locator("#changes tr", has_text="shop-3").last.click()
    together = page.locator(".plan-steps .is-together")
    expect(together).to_have_count(1)
    expect(together).to_contain_text("Execute shop on shop-3")
    words = page.locator(".plan-steps li", has_text="Execute base on shop-2")
    words.click(position={"x": 90, "y": 8})  # below its words is the preview of its script
    expect(page.locator("#changes .is-together")).to_have_text(
        re.compile("base.*shop-2", re.DOTALL)
    )

    admin.press("Make the task, start later")
    admin.is_on("Deploy Suite 1.0 on Staging")
    task = page.url.rstrip("/").rpartition("/")[2]
    paths = {text: path for text, (path, _) in steps(team, task).items()}
    pause = {"path": paths["Execute shop on shop-1"]}
    ok(team.admin.post(f"/tasks/{task}/pause/", json=pause))
    admin.press("Start")
    # One branch pauses, one fails, the others end: both wait for a person.
    expect(state(admin)).to_have_text("failed", timeout=RUN_MS)
    found = {text: now for text, (_, now) in steps(team, task).items()}
    assert found.pop("Execute shop on shop-3") == "failed"
    assert found.pop("Execute shop on shop-1") == "pending"
    assert sorted(found.values()) == ["done"] * 10 + ["paused"], found
    (vm,) = ok(team.admin.get("/vms/", params={"name": "shop-3"}))["results"]
    prepare(team, "shop-3", vm["id"])
    admin.press("Continue")
    expect(state(admin)).to_have_text("executed", timeout=RUN_MS)

    deployed = ok(team.admin.get("/environments/"))["results"][0]["id"]
    (row,) = ok(team.admin.get(f"/environments/{deployed}/deployed/"))["results"]
    assert (row["version"], len(row["deployeds"]), row["partial"]) == ("1.0", 12, False)

    with admin.dialog("Roll back") as modal:
        admin.press("Roll back", modal)
    admin.is_on("Roll back: Undeploy Suite 1.0 on Staging")
    admin.press("Start")
    expect(state(admin)).to_have_text("executed", timeout=RUN_MS)
    assert ok(team.admin.get(f"/environments/{deployed}/deployed/"))["results"] == []
