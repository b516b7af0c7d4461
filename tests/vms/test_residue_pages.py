"""What VMs left, as pages and API show it, and the verbs there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse

from accounts import tokens
from jobs.models import Job
from tests.vms.test_residue import ended, host_of, made
from vms.models import Residue, VirtualMachine

if TYPE_CHECKING:
    from django.test import Client

    from accounts.actors import Actor
    from accounts.models import User
    from tests.vms.conftest import Pool, Worker

HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def vm(pool: Pool, worker: Worker) -> VirtualMachine:
    return made(pool, worker, "build")


@pytest.fixture
def left(pool: Pool, vm: VirtualMachine, worker: Worker) -> Residue:
    """The folder that Bob's VM left, with our mark."""
    host_of(pool, vm, faults={"keepbundle": 1})
    ended(pool, worker, vm)
    host_of(pool, vm, faults=None)
    return Residue.objects.get()


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def bearer(actor: Actor, *scopes: str) -> dict[str, str]:
    token = tokens.create_token(actor, name="test", scopes=scopes or ("admin",))[1]
    return {"HTTP_AUTHORIZATION": f"Bearer {token}"}


def test_the_list_shows_what_stayed_and_offers_to_remove_it(
    pool: Pool, client: Client, alice: User, left: Residue, worker: Worker
) -> None:
    client.force_login(alice)
    page = text(client.get("/residues/"))
    assert left.reference in page
    fix = reverse("vms:fix-residue", args=[left.pk])
    assert fix in page
    answer = client.post(fix, **HTMX, HTTP_HX_CURRENT_URL="http://testserver/residues/")  # type: ignore[arg-type]
    assert (answer.status_code, answer["HX-Trigger"]) == (200, "console:done")
    assert fix not in text(client.get("/residues/"))  # it is under way
    worker.finish(Job.objects.get(kind="residue.fix"))
    assert "Nothing is left" in text(client.get("/residues/"))
    assert left.reference in text(client.get("/residues/?state=fixed"))
    assert host_of(pool, left.receipt.placement.vm)["bundles"] == []


def test_the_list_is_narrowed(client: Client, alice: User, left: Residue) -> None:
    client.force_login(alice)
    for query, shown in [
        ("q=build", True),
        ("q=nothing", False),
        ("ours=yes", True),
        ("ours=no", False),
        (f"host={left.receipt.placement.host.name}", True),
        ("host=elsewhere", False),
    ]:
        assert (left.reference in text(client.get(f"/residues/?{query}"))) == shown, query


def test_what_is_not_ours_has_no_button_to_remove_it(
    client: Client, alice: User, left: Residue
) -> None:
    Residue.objects.update(ours=False)
    client.force_login(alice)
    page = text(client.get("/residues/"))
    assert reverse("vms:fix-residue", args=[left.pk]) not in page
    assert reverse("vms:check-residue", args=[left.pk]) in page
    assert client.post(reverse("vms:fix-residue", args=[left.pk])).status_code == 409


def test_the_page_of_a_vm_shows_its_receipt(
    client: Client, alice: User, bob: User, vm: VirtualMachine, pool: Pool, worker: Worker
) -> None:
    ended(pool, worker, vm)
    client.force_login(bob)
    page = text(client.get(reverse("vms:detail", args=[vm.pk])))
    assert f"Left on {vm.host.name}" in page  # type: ignore[union-attr]
    assert "Nothing is in /Users/parallels/Parallels/" in page


def test_an_owner_sees_what_stayed_but_does_not_remove_it(
    client: Client, bob: User, left: Residue
) -> None:
    client.force_login(bob)
    fix = reverse("vms:fix-residue", args=[left.pk])
    for page in ("/residues/", reverse("vms:detail", args=[left.receipt.placement.vm_id])):
        shown = text(client.get(page))
        assert left.reference in shown
        assert fix not in shown
    assert client.post(fix).status_code == 403


def test_a_vm_has_its_receipt_in_the_api(
    client: Client, pool: Pool, vm: VirtualMachine, left: Residue
) -> None:
    as_bob = bearer(pool.bob)
    receipt = client.get(f"/api/v2/vms/{vm.pk}/", **as_bob).json()["receipt"]
    assert (receipt["verdict"], receipt["left"]) == ("residue", 1)
    assert {check["kind"]: check["found"] for check in receipt["checks"]} == {
        "name": "gone",
        "vm": "gone",
        "bundle": "stayed",
        "snapshots": "gone",
        "disk": "unknown",
    }
    listed = client.get("/api/v2/vms/", **as_bob).json()["results"]
    assert listed[0]["receipt"] == receipt
    alive = pool.ask(name="alive")
    assert client.get(f"/api/v2/vms/{alive.pk}/", **as_bob).json()["receipt"] is None


def test_residues_are_listed_narrowed_and_fixed_by_api(
    client: Client, pool: Pool, left: Residue, worker: Worker
) -> None:
    as_alice = bearer(pool.alice)
    (row,) = client.get("/api/v2/residues/", **as_alice).json()["results"]
    placement = left.receipt.placement
    assert (row["id"], row["kind"], row["ours"]) == (str(left.pk), "bundle", True)
    assert (row["vm"]["name"], row["host"]["name"]) == ("build", placement.host.name)
    for query, count in [
        ("open=true", 1),
        ("open=false", 0),
        ("ours=false", 0),
        ("kind=name", 0),
        (f"vm={placement.vm_id}", 1),
        (f"host={placement.host.name}", 1),
        (f"host={placement.host_id}", 1),
        ("host=elsewhere", 0),
    ]:
        found = client.get(f"/api/v2/residues/?{query}", **as_alice).json()["results"]
        assert len(found) == count, query

    def post(verb: str, **headers: str) -> Any:
        path = f"/api/v2/residues/{left.pk}/{verb}/"
        return client.post(path, {}, content_type="application/json", **headers)  # type: ignore[arg-type]

    assert post("fix", **bearer(pool.bob)).status_code == 403
    assert post("fix", **bearer(pool.alice, "read")).status_code == 403
    looked = post("check", **as_alice)
    assert (looked.status_code, looked.json()["kind"]) == (202, "placement.check")
    worker.finish(Job.objects.get(pk=looked.json()["id"]))
    assert Residue.objects.open().exists()
    fixed = post("fix", **as_alice)
    assert (fixed.status_code, fixed.json()["kind"]) == (202, "residue.fix")
    worker.finish(Job.objects.get(pk=fixed.json()["id"]))
    assert client.get("/api/v2/residues/?open=true", **as_alice).json()["results"] == []
    again = post("fix", **as_alice)
    assert again.status_code == 409
